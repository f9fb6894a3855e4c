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

}  // namespace

void check_finite(const Engine::HeadView& view) {
  if (std::isfinite(view.max_logit)) return;
  throw Error(ErrorKind::checkpoint,
              "[bindings.batch] weights: the model's largest logit is " + std::to_string(view.max_logit) +
                  ", so a tensor has a value that is NaN, infinite or too large for float32, expected finite "
                  "numbers. Get the model's files again.");
}

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
  for (Row& row : rows_) row.sequence = new_sequence();
  engine_->batches_.insert(this);
}

// The last token waits, so that decoding computes the logits that the file does not hold.
Batch::Batch(std::shared_ptr<SharedEngine> engine, const std::string& path, int64_t max_tokens)
    : engine_(std::move(engine)), capacity_(max_tokens), rows_(1) {
  const auto held = engine_->lock();
  Engine& inner = engine_->engine();
  Row& row = rows_.front();
  row.sequence = inner.load_sequence(path, max_tokens);
  inner.keep_snapshots(*row.sequence, engine_->prefix_cache_->snapshot_bytes());
  row.token_ids = row.sequence->token_ids();
  row.answer_start = row.token_ids.size();
  inner.truncate(*row.sequence, row.sequence->length() - 1);
  engine_->batches_.insert(this);
}

Batch::~Batch() {
  const auto held = engine_->lock();
  engine_->batches_.erase(this);
  if (engine_->prefix_cache_)
    for (Row& row : rows_) engine_->prefix_cache_->keep(std::move(row.sequence));
  rows_.clear();
}

// What is kept for later is the first to go where memory lacks.
std::unique_ptr<Sequence> Batch::new_sequence() {
  Engine& engine = engine_->engine();
  PrefixCache& ended = *engine_->prefix_cache_;
  std::unique_ptr<Sequence> sequence;
  try {
    sequence = engine.new_sequence(capacity_);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::out_of_memory || ended.num_bytes() == 0) throw;
    ended.clear();
    sequence = engine.new_sequence(capacity_);
  }
  engine.keep_snapshots(*sequence, ended.snapshot_bytes());
  return sequence;
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

std::vector<int64_t> Batch::num_reused() const {
  const auto held = engine_->lock();
  std::vector<int64_t> counts;
  for (const Row& row : rows_) counts.push_back(row.num_reused);
  return counts;
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

void Batch::begin(const std::vector<std::vector<int32_t>>& token_ids) {
  const auto held = engine_->lock();
  check_room(token_ids);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (token_ids[i].empty()) continue;
    const bool is_new = rows_[i].token_ids.empty();
    rows_[i].token_ids.insert(rows_[i].token_ids.end(), token_ids[i].begin(), token_ids[i].end());
    rows_[i].answer_start = rows_[i].token_ids.size();
    if (is_new) reuse(rows_[i]);
  }
}

void Batch::prefill(const std::vector<std::vector<int32_t>>& token_ids, const InterruptCheck& check) {
  begin(token_ids);
  store_all(check);
}

// Gives an empty row a sequence that holds a beginning; where there is no memory for two, all of the row is computed.
template <class Make>
void Batch::replace(Row& row, Make&& make) {
  try {
    row.sequence = make();
    row.num_reused = row.sequence->length();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::out_of_memory) throw;
    engine_->prefix_cache_->clear();
  }
}

// Takes over the longest beginning of a new row's prompt: from an ended sequence, from what another row has stored, or
// from a row before it in this batch once that has computed it. The last token is always computed: its logits are needed.
void Batch::reuse(Row& row) {
  Engine& engine = engine_->engine();
  PrefixCache& ended = *engine_->prefix_cache_;
  if (ended.max_bytes() == 0) return;
  const std::span<const int32_t> all_but_last(row.token_ids.data(), row.token_ids.size() - 1);
  const int64_t kept = ended.find(row.token_ids);
  int64_t longest = std::max(kept, min_reused_tokens - 1);
  const Sequence* stored = nullptr;
  for (const Batch* batch : engine_->batches_)
    for (const Row& other : batch->rows_) {
      const int64_t shared = engine.restorable(*other.sequence, common_prefix(other.sequence->token_ids(), all_but_last));
      if (shared > longest) longest = shared, stored = other.sequence.get();
    }
  for (const Row& other : std::span(rows_).first(static_cast<size_t>(&row - rows_.data()))) {
    const int64_t shared = common_prefix(other.token_ids, all_but_last);
    if (shared > longest) longest = shared, row.leader = &other;
  }
  row.num_shared = longest;
  if (row.leader) return;
  if (stored) replace(row, [&] { return engine.fork(*stored, capacity_, longest); });
  else if (kept) replace(row, [&] { return ended.take(row.token_ids, capacity_); });
}

// Rows before a row go first, so what it waits for comes.
bool Batch::waits_for_leader(Row& row) {
  if (!row.leader) return false;
  const Sequence& first = *row.leader->sequence;
  if (first.length() < row.num_shared) return true;
  Engine& engine = engine_->engine();
  const int64_t length = engine.restorable(first, row.num_shared);
  if (length > 0) replace(row, [&] { return engine.fork(first, capacity_, length); });
  row.leader = nullptr;
  return false;
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
    if (waits_for_leader(row)) {
      more = true;
      continue;
    }
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
std::vector<Engine::HeadView> Batch::heads(bool best_only) {
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
  if (!work.empty()) engine.step(work, nullptr, best_only);
  std::vector<Engine::HeadView> views;
  size_t index = 0;
  for (size_t i = 0; i < rows_.size(); ++i) views.push_back(is_new[i] ? engine.head(index++) : rows_[i].head.view);
  return views;
}

// One token for each row; nothing is appended unless all could be chosen.
std::vector<Choice> Batch::choose(const DecodeRequest& request, bool best_only, int64_t step) {
  const std::vector<Engine::HeadView> views = heads(best_only);
  for (const Engine::HeadView& view : views) check_finite(view);
  const int64_t vocab_size = engine_->engine().config().vocab_size;
  std::vector<Choice> choices;
  for (size_t i = 0; i < rows_.size(); ++i) {
    const std::span<const int32_t> seen(rows_[i].token_ids);
    const size_t words = request.mask.size() / rows_.size();
    const auto mask = std::span(request.mask).subspan(i * words, words);
    const float uniform = request.uniforms[i * static_cast<size_t>(request.num_steps) + static_cast<size_t>(step)];
    choices.push_back(choose_token(views[i], vocab_size, request.options[i], uniform, seen,
                                   seen.subspan(rows_[i].answer_start), mask, request.num_top));
  }
  for (size_t i = 0; i < rows_.size(); ++i) rows_[i].token_ids.push_back(choices[i].token_id);
  return choices;
}

bool Batch::can_look_ahead(bool best_only) const {
  return engine_->prompt_lookup_ && best_only && rows_.size() == 1 && rows_.front().sequence &&
         rows_.front().waiting().size() == 1;
}

// Tokens of the only row, up to the first that ends it.
std::vector<Choice> Batch::choose_ahead(std::span<const int32_t> stop_token_ids, int64_t max_tokens) {
  Engine& engine = engine_->engine();
  Row& row = rows_.front();
  LookupCounts& counts = engine_->lookup_counts_;
  const int64_t guessed = row.lookup.num_guessed(), right = row.lookup.num_right();
  std::vector<int32_t> chosen = decode_with_lookup(engine, *row.sequence, row.token_ids, max_tokens, row.lookup);
  counts.guessed += row.lookup.num_guessed() - guessed;
  counts.right += row.lookup.num_right() - right;
  const Engine::HeadView last = engine.head(chosen.size() - 1);
  row.token_ids.insert(row.token_ids.end(), chosen.begin(), chosen.end() - 1);
  check_finite(last);
  row.token_ids.push_back(chosen.back());
  const auto stop = std::find_first_of(chosen.begin(), chosen.end(), stop_token_ids.begin(), stop_token_ids.end());
  if (stop != chosen.end()) {
    row.token_ids.resize(row.token_ids.size() - static_cast<size_t>(chosen.end() - stop - 1));
    chosen.erase(stop + 1, chosen.end());
    engine.truncate(*row.sequence, static_cast<int64_t>(row.token_ids.size()) - 1);
  }
  std::vector<Choice> choices;
  for (const int32_t token_id : chosen) choices.push_back({.token_id = token_id, .logprob = 0, .top = {}});
  return choices;
}

std::vector<std::vector<Choice>> Batch::decode(const DecodeRequest& request, const InterruptCheck& check) {
  if (has_backlog()) store_all(check);
  const bool best_only = std::all_of(request.options.begin(), request.options.end(), [&](const SamplingOptions& options) {
    return request.mask.empty() && needs_best_only(options, request.num_top);
  });
  std::vector<std::vector<Choice>> steps;
  std::vector<bool> stopped(rows_.size());
  const auto num_done = [&] { return static_cast<int64_t>(steps.size()); };
  while (num_done() < request.num_steps) {
    {
      const auto held = engine_->lock();
      if (can_look_ahead(best_only))
        for (Choice& choice : choose_ahead(request.stop_token_ids, request.num_steps - num_done())) steps.push_back({std::move(choice)});
      else
        steps.push_back(choose(request, best_only, num_done()));
    }
    check();
    if (note_stops(steps.back(), request.stop_token_ids, stopped)) break;
  }
  return steps;
}

void Batch::save_state(int64_t row, const std::string& path, const InterruptCheck& check) {
  if (row < 0 || row >= static_cast<int64_t>(rows_.size()))
    throw Error(ErrorKind::usage, "row: " + text_of(row) + " is none, expected 0 to " +
                                      text_of(static_cast<int64_t>(rows_.size()) - 1) + ".");
  store_all(check);
  const auto held = engine_->lock();
  Engine& engine = engine_->engine();
  engine.save_sequence(*rows_[static_cast<size_t>(row)].sequence, path);
}

}  // namespace gemcut
