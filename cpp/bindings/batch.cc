// Prefill and the decoding loop of sequences that share their passes.
#include "bindings/batch.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "formats/error.h"

namespace gemcut {
namespace {

std::string text_of(int64_t number) { return std::to_string(number); }

// Marks the rows whose token is a stop id; whether all are marked now.
bool note_stops(const std::vector<Choice>& choices, const std::vector<int32_t>& stops, std::vector<bool>& stopped) {
  for (size_t row = 0; row < choices.size(); ++row) {
    if (std::find(stops.begin(), stops.end(), choices[row].token_id) != stops.end()) stopped[row] = true;
  }
  return std::find(stopped.begin(), stopped.end(), false) == stopped.end();
}

// A weight that is no number reaches the logits, where looking at the largest one costs nothing.
void check_finite(const std::vector<Engine::HeadView>& views) {
  for (const Engine::HeadView& view : views) {
    if (std::isfinite(view.max_logit)) continue;
    throw Error(ErrorKind::checkpoint,
                "[bindings.batch] weights: the model's largest logit is " + std::to_string(view.max_logit) +
                    ", so a tensor has a value that is NaN, infinite or too large for float32, expected finite "
                    "numbers. Get the model's files again.");
  }
}

}  // namespace

void Batch::KeptHead::keep(const Engine::HeadView& head, int64_t vocab_size) {
  logits.assign(head.logits, head.logits + vocab_size);
  group_max.assign(head.group_max.begin(), head.group_max.end());
  view = head;
  view.logits = logits.data();
  view.group_max = group_max;
}

std::span<const int32_t> Batch::Row::waiting() const {
  return std::span(token_ids).subspan(static_cast<size_t>(sequence->length()));
}

Batch::Batch(std::shared_ptr<SharedEngine> engine, int64_t batch_size, int64_t max_tokens)
    : engine_(std::move(engine)), capacity_(max_tokens), rows_(static_cast<size_t>(batch_size)) {
  const auto held = engine_->lock();
  for (Row& row : rows_) row.sequence = engine_->engine().new_sequence(max_tokens);
  engine_->batches_.insert(this);
}

Batch::~Batch() {
  const auto held = engine_->lock();
  engine_->batches_.erase(this);
  rows_.clear();
}

void Batch::forget() {
  for (Row& row : rows_) row.sequence.reset();
}

int64_t Batch::num_bytes() const {
  const auto held = engine_->lock();
  int64_t bytes = 0;
  for (const Row& row : rows_) bytes += row.sequence ? row.sequence->num_bytes() : 0;
  return bytes;
}

std::vector<std::vector<int32_t>> Batch::token_ids() const {
  const auto held = engine_->lock();
  std::vector<std::vector<int32_t>> all;
  for (const Row& row : rows_) all.push_back(row.token_ids);
  return all;
}

void Batch::check_room(const std::vector<std::vector<int32_t>>& token_ids) const {
  if (token_ids.size() != rows_.size()) {
    throw Error(ErrorKind::usage, "token_ids: " + text_of(static_cast<int64_t>(token_ids.size())) +
                                      " sequences for a cache of " + text_of(static_cast<int64_t>(rows_.size())) + ".");
  }
  const int64_t vocab_size = engine_->engine().config().vocab_size;
  for (size_t i = 0; i < rows_.size(); ++i) {
    for (const int32_t token_id : token_ids[i]) {
      if (token_id >= 0 && token_id < vocab_size) continue;
      throw Error(ErrorKind::usage, "token_ids: " + text_of(token_id) + " is not a token id, expected 0 to " +
                                        text_of(vocab_size - 1) + ".");
    }
    const int64_t total = static_cast<int64_t>(rows_[i].token_ids.size() + token_ids[i].size());
    if (total > capacity_) {
      throw Error(ErrorKind::context_length, "a sequence of " + text_of(total) + " tokens does not fit the cache of " +
                                                 text_of(capacity_) + ".");
    }
  }
}

void Batch::prefill(const std::vector<std::vector<int32_t>>& token_ids, const InterruptCheck& check) {
  {
    const auto held = engine_->lock();
    check_room(token_ids);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (token_ids[i].empty()) continue;
      rows_[i].token_ids.insert(rows_[i].token_ids.end(), token_ids[i].begin(), token_ids[i].end());
      rows_[i].answer_start = rows_[i].token_ids.size();
    }
  }
  store_all(check);
}

// Whether more waits than the tokens chosen last: what an interrupted prefill left.
bool Batch::has_backlog() const {
  const auto held = engine_->lock();
  engine_->engine();
  return std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.waiting().size() > 1; });
}

void Batch::store_all(const InterruptCheck& check) {
  for (bool more = true; more;) {
    {
      const auto held = engine_->lock();
      more = store_some();
    }
    check();
  }
}

// One pass over the first waiting tokens; whether some are left.
bool Batch::store_some() {
  Engine& engine = engine_->engine();
  std::vector<Work> work;
  std::vector<Row*> owners;
  int64_t room = pass_tokens;
  bool finishes = false, more = false;
  for (Row& row : rows_) {
    const auto waiting = row.waiting();
    const size_t count = std::min<size_t>(waiting.size(), static_cast<size_t>(room));
    more |= count < waiting.size();
    if (!count) continue;
    finishes |= count == waiting.size();
    work.push_back({row.sequence.get(), waiting.first(count)});
    owners.push_back(&row);
    room -= static_cast<int64_t>(count);
  }
  if (work.empty()) return false;
  if (!finishes) {
    engine.forward(work, {.rows = Rows::none, .want_logits = false});
    return more;
  }
  engine.step(work);
  for (size_t i = 0; i < work.size(); ++i) {
    if (owners[i]->waiting().empty()) owners[i]->head.keep(engine.head(i), engine.config().vocab_size);
  }
  return more;
}

// The logits that each row's next token is chosen from, computed for rows whose last token is not stored yet.
std::vector<Engine::HeadView> Batch::heads() {
  Engine& engine = engine_->engine();
  std::vector<Work> work;
  std::vector<bool> is_new;
  for (const Row& row : rows_) {
    if (row.token_ids.empty()) {
      throw Error(ErrorKind::usage, "cache: a sequence is empty; prefill at least one token before decoding.");
    }
    is_new.push_back(!row.waiting().empty());
    if (is_new.back()) work.push_back({row.sequence.get(), row.waiting()});
  }
  if (!work.empty()) engine.step(work);
  std::vector<Engine::HeadView> views;
  size_t index = 0;
  for (size_t i = 0; i < rows_.size(); ++i) views.push_back(is_new[i] ? engine.head(index++) : rows_[i].head.view);
  return views;
}

// One token for each row; nothing is appended unless all could be chosen.
std::vector<Choice> Batch::choose(const DecodeRequest& request, int64_t step) {
  const std::vector<Engine::HeadView> views = heads();
  check_finite(views);
  const int64_t vocab_size = engine_->engine().config().vocab_size;
  std::vector<Choice> choices;
  for (size_t i = 0; i < rows_.size(); ++i) {
    const std::span<const int32_t> seen(rows_[i].token_ids);
    const auto mask = request.mask.empty() ? request.mask : request.mask.subspan(i * vocab_size, vocab_size);
    const float uniform = request.uniforms[i * static_cast<size_t>(request.num_steps) + static_cast<size_t>(step)];
    choices.push_back(choose_token(views[i], vocab_size, request.options[i], uniform, seen,
                                   seen.subspan(rows_[i].answer_start), mask, request.num_top));
  }
  for (size_t i = 0; i < rows_.size(); ++i) rows_[i].token_ids.push_back(choices[i].token_id);
  return choices;
}

std::vector<std::vector<Choice>> Batch::decode(const DecodeRequest& request, const InterruptCheck& check) {
  if (has_backlog()) store_all(check);
  std::vector<std::vector<Choice>> steps;
  std::vector<bool> stopped(rows_.size());
  for (int64_t step = 0; step < request.num_steps; ++step) {
    {
      const auto held = engine_->lock();
      steps.push_back(choose(request, step));
    }
    check();
    if (note_stops(steps.back(), request.stop_token_ids, stopped)) break;
  }
  return steps;
}

}  // namespace gemcut
