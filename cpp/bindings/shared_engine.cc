// Logits and scores of whole sequences, in groups of rows so that memory stays bounded.
#include "bindings/shared_engine.h"

#include <algorithm>

#include "bindings/batch.h"
#include "formats/error.h"

namespace gemcut {
namespace {

// Rows of logits held at once: 64 MiB for a vocabulary of 262,144.
constexpr int64_t group_size = 64;

}  // namespace

SharedEngine::SharedEngine(std::unique_ptr<Engine> engine, int64_t prefix_cache_bytes)
    : engine_(std::move(engine)),
      prefix_cache_(std::make_unique<PrefixCache>(*engine_, prefix_cache_bytes)),
      scorer_(std::make_unique<Scorer>(*engine_)) {}

Engine& SharedEngine::engine() const {
  if (!engine_) throw Error(ErrorKind::failed, "model: it was closed, so its weights are gone. Load it again.");
  return *engine_;
}

void SharedEngine::close() {
  const auto held = lock();
  for (Batch* batch : batches_) batch->forget();
  scorer_.reset();
  prefix_cache_.reset();
  engine_.reset();
}

int64_t SharedEngine::sequence_bytes(int64_t max_tokens) const {
  const auto held = lock();
  return engine().sequence_bytes(max_tokens) + engine().max_snapshot_bytes(max_tokens, prefix_cache_->snapshot_bytes());
}

int64_t SharedEngine::prefix_cache_limit() const {
  const auto held = lock();
  engine();
  return prefix_cache_->max_bytes();
}

void SharedEngine::set_prefix_cache_limit(int64_t max_bytes) {
  const auto held = lock();
  engine().keep_memory(max_bytes ? max_bytes : INT64_MAX);
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

std::vector<TextScore> SharedEngine::score(std::span<const ScoredText> texts, const InterruptCheck& check) {
  std::vector<TextScore> scores(texts.size());
  auto held = lock();
  for (size_t done = 0; done < texts.size();) {
    engine();  // throws where it was closed
    done += scorer_->score_group(texts.subspan(done), std::span(scores).subspan(done));
    held.unlock();
    check();
    held.lock();
  }
  return scores;
}

}  // namespace gemcut
