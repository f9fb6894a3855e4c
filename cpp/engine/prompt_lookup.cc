#include "engine/prompt_lookup.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace gemcut {
namespace {

constexpr double forget = 0.9;      // share of what was seen before that each new trial leaves
constexpr double smoothing = 0.2;   // share of a new time in the smoothed one
constexpr double least_gain = 1.05; // in tokens a second: less is not worth the risk
constexpr double first_cost = 0.3;  // of one guess more, before anything was measured

// The place of an n-gram in a table. Two may share it, so whoever finds one looks at the tokens too.
uint64_t hash_of(std::span<const int32_t> token_ids) {
  uint64_t hash = 0;
  for (const int32_t token_id : token_ids) hash = (hash ^ static_cast<uint32_t>(token_id)) * 0x9E3779B97F4A7C15u;
  return hash;
}

}  // namespace

// n guesses, each right with probability p, give 1 + p + ... + p^n tokens.
int64_t GuessRecord::choose(std::span<const double> costs) {
  const double p = right_ / tried_;
  double tokens = 1, power = 1, best_gain = least_gain;
  size_t best = 0;
  for (size_t n = 1; n < costs.size(); ++n) {
    power *= p;
    tokens += power;
    if (tokens / costs[n] > best_gain) best_gain = tokens / costs[n], best = n;
  }
  if (best > 0 || costs.size() < 2 || ++waited_ < wait_) return static_cast<int64_t>(best);
  // Texts change: one guess is tried again, with little believed, and if it fails the next trial is further away.
  waited_ = 0;
  wait_ = std::min(2 * wait_, longest_wait);
  tried_ = first_tried;
  right_ = first_right;
  return 1;
}

void GuessRecord::note(int64_t guessed, int64_t right) {
  tried_ = forget * tried_ + static_cast<double>(right + (right < guessed));
  right_ = forget * right_ + static_cast<double>(right);
  if (right == guessed) wait_ = first_wait;
}

PromptLookup::PromptLookup() {
  for (int64_t n = 0; n <= max_guesses; ++n) costs_[n] = 1 + first_cost * static_cast<double>(n);
}

std::vector<int32_t> PromptLookup::guess(std::span<const int32_t> token_ids, int64_t max_tokens) {
  const size_t size = token_ids.size();
  if (size == 0) return {};
  for (size_t end = indexed_ + 1; end < size; ++end)
    for (size_t i = 0; i < std::size(lengths); ++i)
      if (end >= lengths[i]) ends_[i][hash_of(token_ids.subspan(end - lengths[i], lengths[i]))] = end;
  indexed_ = size - 1;
  for (size_t i = 0; i < std::size(lengths); ++i) {
    if (size <= lengths[i]) continue;
    const auto last = token_ids.last(lengths[i]);
    const auto found = ends_[i].find(hash_of(last));
    if (found == ends_[i].end()) continue;
    const size_t end = found->second;
    if (!std::equal(last.begin(), last.end(), token_ids.begin() + static_cast<std::ptrdiff_t>(end - lengths[i]))) continue;
    used_ = i;
    const int64_t most = std::clamp<int64_t>(max_tokens, 0, max_guesses);
    const int64_t count = records_[i].choose(std::span(costs_).first(static_cast<size_t>(most) + 1));
    std::vector<int32_t> guesses;
    // A text that repeats itself goes on with what was just guessed.
    for (size_t at = end; guesses.size() < static_cast<size_t>(count); ++at)
      guesses.push_back(at < size ? token_ids[at] : guesses[at - size]);
    return guesses;
  }
  return {};
}

void PromptLookup::note(int64_t guessed, int64_t right, double seconds) {
  if (guessed == 0) {
    one_token_seconds_ += (one_token_seconds_ == 0 ? 1 : smoothing) * (seconds - one_token_seconds_);
    return;
  }
  records_[used_].note(guessed, right);
  num_guessed_ += guessed;
  num_right_ += right;
  if (one_token_seconds_ == 0) return;
  // What one number of guesses costs says something of the others too.
  const double most = static_cast<double>(guessed + 1), found = std::clamp(seconds / one_token_seconds_, 1.0, most);
  const double change = smoothing * (found - costs_[guessed]);
  for (int64_t n = 1; n <= max_guesses; ++n) costs_[n] += n == guessed ? change : change / 2;
}

std::vector<int32_t> decode_with_lookup(Engine& engine, Sequence& sequence, std::span<const int32_t> token_ids,
                                        int64_t max_tokens, PromptLookup& lookup) {
  const int64_t room = std::min(max_tokens, sequence.capacity() - sequence.length()) - 1;
  std::vector<int32_t> pass = {token_ids.back()};
  const std::vector<int32_t> guesses = lookup.guess(token_ids, room);
  pass.insert(pass.end(), guesses.begin(), guesses.end());
  const auto begin = std::chrono::steady_clock::now();
  const Work work{&sequence, pass};
  if (guesses.empty()) engine.step({&work, 1}, nullptr, true);
  else engine.step_all(work);
  std::vector<int32_t> chosen;
  do {
    const Engine::HeadView head = engine.head(chosen.size());
    chosen.push_back(head.best_token_id);
    if (!std::isfinite(head.max_logit)) break;
  } while (chosen.size() <= guesses.size() && chosen.back() == guesses[chosen.size() - 1]);
  const int64_t wrong = static_cast<int64_t>(pass.size() - chosen.size());
  if (wrong) engine.truncate(sequence, sequence.length() - wrong);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  lookup.note(static_cast<int64_t>(guesses.size()), static_cast<int64_t>(chosen.size()) - 1, seconds.count());
  return chosen;
}

}  // namespace gemcut
