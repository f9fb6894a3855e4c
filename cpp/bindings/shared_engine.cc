// Logits and scores of whole sequences, in groups of rows so that memory stays bounded.
#include "bindings/shared_engine.h"

#include <algorithm>

#include "bindings/batch.h"
#include "engine/forward.h"
#include "formats/error.h"

namespace gemcut {
namespace {

// Rows of logits held at once: 64 MiB for a vocabulary of 262,144.
constexpr int64_t group_size = 64;

float log_probability(const float* logits, int64_t vocab_size, int32_t token_id) {
  Engine::HeadView head;
  head.logits = logits;
  head.group_tokens = head_tokens;
  head.max_logit = *std::max_element(logits, logits + vocab_size);
  return static_cast<float>(logits[token_id] - log_sum_exp(head, vocab_size));
}

// One sequence being scored: how far its tokens have been taken in.
struct Scored {
  const std::vector<int32_t>* token_ids;
  std::vector<float>* scores;
  std::unique_ptr<Sequence> sequence;
  size_t done = 0;

  std::span<const int32_t> waiting(size_t at_most) const {
    const size_t end = token_ids->size() - 1;  // the last token is only predicted
    return std::span(*token_ids).subspan(done, std::min(end - done, at_most));
  }
};

// One pass over the first sequences of `open` that fit a group of rows.
void score_group(Engine& engine, std::span<Scored> open) {
  std::vector<Work> work;
  int64_t room = group_size;
  for (Scored& each : open) {
    if (!each.sequence) each.sequence = engine.new_sequence(static_cast<int64_t>(each.token_ids->size()));
    work.push_back({each.sequence.get(), each.waiting(static_cast<size_t>(room))});
    room -= static_cast<int64_t>(work.back().token_ids.size());
  }
  const Results results = engine.forward(work, {.rows = Rows::all});
  const int64_t vocab_size = engine.config().vocab_size;
  const float* row = results.logits.data();
  for (size_t i = 0; i < work.size(); ++i) {
    Scored& each = open[i];
    for (size_t count = work[i].token_ids.size(); count; --count, row += vocab_size) {
      each.scores->push_back(log_probability(row, vocab_size, (*each.token_ids)[++each.done]));
    }
    if (each.done + 1 == each.token_ids->size()) each.sequence.reset();
  }
}

}  // namespace

SharedEngine::SharedEngine(std::unique_ptr<Engine> engine, int64_t prefix_cache_bytes)
    : engine_(std::move(engine)), prefix_cache_(std::make_unique<PrefixCache>(*engine_, prefix_cache_bytes)) {}

Engine& SharedEngine::engine() const {
  if (!engine_) throw Error(ErrorKind::failed, "model: it was closed, so its weights are gone. Load it again.");
  return *engine_;
}

void SharedEngine::close() {
  const auto held = lock();
  for (Batch* batch : batches_) batch->forget();
  prefix_cache_.reset();
  engine_.reset();
}

int64_t SharedEngine::prefix_cache_limit() const {
  const auto held = lock();
  engine();
  return prefix_cache_->max_bytes();
}

void SharedEngine::set_prefix_cache_limit(int64_t max_bytes) {
  const auto held = lock();
  engine();
  prefix_cache_->set_max_bytes(max_bytes);
}

int64_t SharedEngine::prefix_cache_bytes() const {
  const auto held = lock();
  engine();
  return prefix_cache_->num_bytes();
}

bool SharedEngine::prompt_lookup() const {
  const auto held = lock();
  return prompt_lookup_;
}

void SharedEngine::set_prompt_lookup(bool is_on) {
  const auto held = lock();
  prompt_lookup_ = is_on;
}

LookupCounts SharedEngine::lookup_counts() const {
  const auto held = lock();
  return lookup_counts_;
}

void SharedEngine::rows(std::span<const int32_t> token_ids, bool want_hidden, std::span<float> out,
                        const InterruptCheck& check) {
  auto held = lock();
  const std::unique_ptr<Sequence> sequence = engine().new_sequence(static_cast<int64_t>(token_ids.size()));
  const PassOptions options{.rows = Rows::all, .want_logits = !want_hidden, .want_hidden = want_hidden};
  float* end = out.data();
  for (size_t begin = 0; begin < token_ids.size(); begin += group_size) {
    const size_t count = std::min<size_t>(group_size, token_ids.size() - begin);
    const Work work{sequence.get(), token_ids.subspan(begin, count)};
    const Results results = engine().forward({&work, 1}, options);
    const std::vector<float>& values = want_hidden ? results.hidden : results.logits;
    end = std::copy(values.begin(), values.end(), end);
    held.unlock();
    check();
    held.lock();
  }
}

std::vector<std::vector<float>> SharedEngine::score(const std::vector<std::vector<int32_t>>& token_ids,
                                                    const InterruptCheck& check) {
  std::vector<std::vector<float>> scores(token_ids.size());
  std::vector<Scored> all;
  for (size_t i = 0; i < token_ids.size(); ++i)
    if (token_ids[i].size() > 1) all.push_back({&token_ids[i], &scores[i], nullptr, 0});
  size_t begin = 0;
  auto held = lock();
  while (begin < all.size()) {
    size_t end = begin, rows = 0;
    while (end < all.size() && rows < group_size) rows += all[end++].waiting(group_size).size();
    score_group(engine(), std::span(all).subspan(begin, end - begin));
    while (begin < end && !all[begin].sequence) ++begin;
    held.unlock();
    check();
    held.lock();
  }
  return scores;
}

}  // namespace gemcut
