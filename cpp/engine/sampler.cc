// Penalties, cuts and the draw. Groups of tokens whose largest logit is too small are never looked into.
#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "formats/message.h"
#include "kernels/kernels.h"

namespace gemcut {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr size_t kWordBits = 32;          // tokens of one word of a mask
constexpr uint32_t kAllBits = 0xffffffff;
constexpr std::array<uint32_t, kWordBits> kBits = [] {
  std::array<uint32_t, kWordBits> bits{};
  for (size_t i = 0; i < kWordBits; ++i) bits[i] = 1u << i;
  return bits;
}();
constexpr int64_t kSmallGroup = 64;       // tokens of a group where the head's own groups are too few for top-k
constexpr double kCandidateShare = 1e-9;  // Python: model.sampling_host.CANDIDATE_SHARE

// A row of logits with the largest of each group of tokens.
struct Row {
  std::span<const float> logits;     // V
  std::span<const float> group_max;
  int64_t group_tokens = 0;

  std::span<const float> group(size_t i) const {
    const size_t first = i * static_cast<size_t>(group_tokens);
    return logits.subspan(first, std::min(static_cast<size_t>(group_tokens), logits.size() - first));
  }
  float largest() const { return *std::max_element(group_max.begin(), group_max.end()); }
  // The lowest id of the largest logit.
  int32_t best() const {
    const auto i = static_cast<size_t>(std::max_element(group_max.begin(), group_max.end()) - group_max.begin());
    const auto tokens = group(i);
    return static_cast<int32_t>(std::max_element(tokens.begin(), tokens.end()) - logits.begin());
  }
};

// In eight lanes, which compilers make one instruction.
float max_of(std::span<const float> values) {
  float lanes[8] = {kNever, kNever, kNever, kNever, kNever, kNever, kNever, kNever};
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8)
    for (size_t lane = 0; lane < 8; ++lane) {
      const float value = values[i + lane];
      lanes[lane] = lanes[lane] > value ? lanes[lane] : value;
    }
  for (; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + 8);
}

// The head's row, or a copy of it that may be changed.
class OwnRow {
 public:
  OwnRow(const Engine::HeadView& head, std::span<const float> logits)
      : row_{logits, head.group_max, head.group_tokens} {}
  OwnRow(const OwnRow&) = delete;
  const Row& row() const { return row_; }

  // From here on it shows a copy in this thread's memory, until the thread's next copy.
  void copy() {
    static thread_local std::vector<float> logits, group_max;
    logits.assign(row_.logits.begin(), row_.logits.end());
    group_max.assign(row_.group_max.begin(), row_.group_max.end());
    row_.logits = logits_ = logits;
    row_.group_max = group_max_ = group_max;
  }
  float& operator[](int32_t token_id) { return logits_[static_cast<size_t>(token_id)]; }
  // After changes to the logits of `token_ids`, ascending.
  void update(std::span<const int32_t> token_ids) {
    size_t done = group_max_.size();
    for (const int32_t token_id : token_ids) {
      const auto i = static_cast<size_t>(token_id / row_.group_tokens);
      if (i != done) group_max_[i] = max_of(row_.group(i));
      done = i;
    }
  }
  void forbid(std::span<const uint32_t> allowed) {
    for (size_t word = 0; word < allowed.size(); ++word) {
      const uint32_t bits = allowed[word];
      if (bits == kAllBits) continue;
      const auto tokens = logits_.subspan(word * kWordBits, std::min(kWordBits, logits_.size() - word * kWordBits));
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = bits & kBits[i] ? tokens[i] : kNever;
    }
    for (size_t i = 0; i < group_max_.size(); ++i) {
      const size_t first = i * static_cast<size_t>(row_.group_tokens), end = first + row_.group(i).size();
      const auto words = allowed.subspan(first / kWordBits, (end - 1) / kWordBits + 1 - first / kWordBits);
      if (std::any_of(words.begin(), words.end(), [](uint32_t bits) { return bits != kAllBits; }))
        group_max_[i] = max_of(row_.group(i));
    }
  }

 private:
  Row row_;
  std::span<float> logits_, group_max_;
};

// Each id once, ascending. Ids outside the vocabulary are none of its tokens.
std::vector<int32_t> distinct(std::vector<int32_t> token_ids, int64_t vocab_size) {
  std::erase_if(token_ids, [&](int32_t id) { return id < 0 || id >= vocab_size; });
  std::sort(token_ids.begin(), token_ids.end());
  token_ids.erase(std::unique(token_ids.begin(), token_ids.end()), token_ids.end());
  return token_ids;
}

// In float32 and in the order of sampling_host._adjusted, so that the numbers are the same.
void apply_penalties(OwnRow& row, int64_t vocab_size, const SamplingOptions& options, std::span<const int32_t> seen,
                     std::span<const int32_t> answer) {
  const std::vector<int32_t> seen_ids = distinct({seen.begin(), seen.end()}, vocab_size);
  for (const int32_t id : seen_ids)
    row[id] = row[id] > 0 ? row[id] / options.repetition_penalty : row[id] * options.repetition_penalty;
  std::vector<int32_t> counted(answer.begin(), answer.end());
  std::sort(counted.begin(), counted.end());
  const std::vector<int32_t> answer_ids = distinct(counted, vocab_size);
  for (const int32_t id : answer_ids) {
    const auto [first, last] = std::equal_range(counted.begin(), counted.end(), id);
    row[id] -= options.presence_penalty;
    row[id] -= options.frequency_penalty * static_cast<float>(last - first);
  }
  std::vector<int32_t> biased;
  for (const auto& [id, bias] : options.logit_bias) biased.push_back(id);
  biased = distinct(biased, vocab_size);
  for (const int32_t id : biased) {
    float sum = 0;
    for (const auto& [other, bias] : options.logit_bias)
      if (other == id) sum += bias;
    row[id] += sum;
  }
  std::vector<int32_t> changed = seen_ids;
  for (const auto& ids : {answer_ids, biased}) changed.insert(changed.end(), ids.begin(), ids.end());
  row.update(distinct(std::move(changed), vocab_size));
}

// The k-th largest value; -inf where there are fewer.
float kth_largest(std::span<const float> values, size_t k) {
  if (k > values.size()) return kNever;
  std::vector<float> heap(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(k));
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  for (const float value : values.subspan(k)) {
    if (value <= heap.front()) continue;
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.back() = value;
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
  return heap.front();
}

struct Candidate {
  int32_t token_id;
  float weight;  // probability over the largest one's; where the best tokens are listed, the logit
};

// A logit that at least k tokens reach, since so many groups do; -inf for a k above half the vocabulary or so.
float top_k_bound(const Row& row, size_t k) {
  if (2 * k <= row.group_max.size()) return kth_largest(row.group_max, k);
  const Row fine{row.logits, {}, kSmallGroup};
  std::vector<float> group_max;
  for (size_t i = 0; i * kSmallGroup < row.logits.size(); ++i) group_max.push_back(max_of(fine.group(i)));
  return kth_largest(group_max, k);
}

// The distribution at one temperature.
class Weights {
 public:
  Weights(const Row& row, float temperature)
      : row_(row), temperature_(temperature), largest_(row.largest()), scaled_largest_(largest_ / temperature) {}

  // Tokens whose logit is at least `bound`, or rounds to the same weight, with weights of at least `least`; by id.
  std::vector<Candidate> candidates(float bound, float least) const {
    const float low = bound - 1e-6f * (temperature_ + std::fabs(bound) + std::fabs(largest_));
    const float floor = std::max(low, bound_of(least));
    std::vector<Candidate> found;
    for (size_t i = 0; i < row_.group_max.size(); ++i) {
      if (row_.group_max[i] < floor) continue;
      auto token_id = static_cast<int32_t>(static_cast<int64_t>(i) * row_.group_tokens);
      for (const float logit : row_.group(i)) {
        if (logit >= floor) {
          const float weight = std::exp(logit / temperature_ - scaled_largest_);
          if (weight >= least) found.push_back({token_id, weight});
        }
        ++token_id;
      }
    }
    return found;
  }

 private:
  // A logit below it surely has a weight below `weight`.
  float bound_of(float weight) const {
    return largest_ + temperature_ * (std::log(weight) - 0.01f) - 1e-5f * std::fabs(largest_);
  }

  const Row& row_;
  float temperature_, largest_, scaled_largest_;
};

// The weight of the last token that the most probable ones need to reach `top_p` of the candidates' mass.
float top_p_threshold(const std::vector<Candidate>& candidates, float top_p) {
  double total = 0;
  std::vector<float> weights;
  weights.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    total += candidate.weight;
    weights.push_back(candidate.weight);
  }
  // The most probable few usually hold the mass; only they are put in order.
  double running = 0;
  size_t sorted = 0;
  for (size_t size = 64; sorted < weights.size(); size *= 4) {
    const size_t end = std::min(sorted + size, weights.size());
    const auto begin = weights.begin() + static_cast<std::ptrdiff_t>(sorted);
    std::partial_sort(begin, weights.begin() + static_cast<std::ptrdiff_t>(end), weights.end(), std::greater<>());
    for (; sorted < end; ++sorted) {
      running += weights[sorted];
      if (running >= static_cast<double>(top_p) * total) return weights[sorted];
    }
  }
  return weights.back();
}

// Candidates that survive top-k, then top-p, then min-p; by id. Python: model.sampling_host._kept.
std::vector<Candidate> kept(const Row& row, const SamplingOptions& options) {
  const auto vocab_size = static_cast<int64_t>(row.logits.size());
  const int64_t top_k = options.top_k > 0 ? std::min(options.top_k, vocab_size) : vocab_size;
  const Weights weights(row, options.temperature);
  if (top_k == vocab_size && options.top_p >= 1) return weights.candidates(kNever, options.min_p);
  const auto k = static_cast<size_t>(top_k);
  const float bound = top_k_bound(row, k);
  std::vector<Candidate> found = weights.candidates(bound, static_cast<float>(kCandidateShare));
  // The tokens left out hold less than V * 1e-9 of the best weight: a cut closer to everything needs them all.
  if (found.size() < k && 1.0 - double{options.top_p} < static_cast<double>(vocab_size) * kCandidateShare)
    found = weights.candidates(bound, std::numeric_limits<float>::denorm_min());
  const auto drop_below = [&](float threshold) {
    std::erase_if(found, [&](const Candidate& candidate) { return candidate.weight < threshold; });
  };
  if (k < found.size()) {
    std::vector<float> values;
    for (const Candidate& candidate : found) values.push_back(candidate.weight);
    drop_below(kth_largest(values, k));
  }
  if (options.top_p < 1) drop_below(top_p_threshold(found, options.top_p));
  drop_below(options.min_p);
  return found;
}

// The first token, by id, at which the running sum of weights passes uniform * total.
int32_t draw(const std::vector<Candidate>& candidates, float uniform) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  double running = 0;
  for (const Candidate& candidate : candidates) {
    running += candidate.weight;
    if (running > static_cast<double>(uniform) * total) return candidate.token_id;
  }
  return candidates.back().token_id;
}

int32_t best_allowed(const Row& row, std::span<const uint32_t> allowed);

// The logits of `tokens`, the first of which has the id `first`, over a temperature; -inf for those that a mask forbids.
void scale(std::span<const float> tokens, size_t first, float temperature, std::span<const uint32_t> allowed, float* out) {
  for (size_t k = 0; k < tokens.size(); ++k) out[k] = tokens[k] / temperature;
  if (allowed.empty()) return;
  for (size_t done = 0; done < tokens.size(); done += kWordBits) {
    const uint32_t bits = allowed[(first + done) / kWordBits];
    if (bits == kAllBits) continue;
    if (tokens.size() - done >= kWordBits)
      for (size_t k = 0; k < kWordBits; ++k) out[done + k] = bits & kBits[k] ? out[done + k] : kNever;
    else
      for (size_t k = 0; done + k < tokens.size(); ++k) out[done + k] = bits & kBits[k] ? out[done + k] : kNever;
  }
}

bool allows_any(std::span<const uint32_t> allowed, size_t first, size_t count) {
  if (allowed.empty()) return true;
  const auto words = allowed.subspan(first / kWordBits, (count + kWordBits - 1) / kWordBits);
  return std::any_of(words.begin(), words.end(), [](uint32_t bits) { return bits != 0; });
}

// A draw from all tokens that a mask allows: first the group, by sums that a kernel makes, then the token in it. The same
// token as draw() gives, but where a sum's rounding decides. Groups are whole words of a mask.
int32_t draw_from_all(const Row& row, std::span<const uint32_t> allowed, float temperature, float uniform) {
  constexpr float least = std::numeric_limits<float>::min();
  const Kernels& kernels = choose_kernels();
  const float best = allowed.empty() ? row.largest() : row.logits[static_cast<size_t>(best_allowed(row, allowed))];
  const float largest = best / temperature;
  std::vector<float> scaled(static_cast<size_t>(row.group_tokens));
  std::vector<double> sums;
  double total = 0;
  for (size_t i = 0; i < row.group_max.size(); ++i) {
    const auto group = row.group(i);
    const size_t first = i * static_cast<size_t>(row.group_tokens);
    double sum = 0;
    if (allows_any(allowed, first, group.size()) && std::exp(row.group_max[i] / temperature - largest) >= least) {
      scale(group, first, temperature, allowed, scaled.data());
      sum = kernels.sum_exp(scaled.data(), largest, static_cast<int64_t>(group.size()));
    }
    total += sums.emplace_back(sum);
  }
  double left = static_cast<double>(uniform) * total;
  size_t chosen = 0;
  for (; chosen + 1 < sums.size() && left >= sums[chosen]; ++chosen) left -= sums[chosen];
  while (sums[chosen] == 0) --chosen;  // rounding has passed the last one
  auto token_id = static_cast<int32_t>(static_cast<int64_t>(chosen) * row.group_tokens), last = token_id;
  scale(row.group(chosen), static_cast<size_t>(token_id), temperature, allowed, scaled.data());
  for (size_t k = 0; k < row.group(chosen).size(); ++k) {
    const float weight = std::exp(scaled[k] - largest);
    if (weight >= least) {
      last = token_id;
      left -= weight;
      if (left < 0) break;
    }
    ++token_id;
  }
  return last;
}

// The lowest id of the largest logit that a mask allows. Groups whose largest one is smaller are not looked into.
int32_t best_allowed(const Row& row, std::span<const uint32_t> allowed) {
  const size_t vocab_size = row.logits.size(), group_tokens = static_cast<size_t>(row.group_tokens);
  size_t best = vocab_size;
  const auto look_into = [&](size_t group) {
    const size_t first = group * group_tokens, end = std::min(first + group_tokens, vocab_size);
    for (size_t word = first / kWordBits; word * kWordBits < end; ++word)
      for (uint32_t bits = allowed[word]; bits; bits &= bits - 1) {
        const size_t id = word * kWordBits + static_cast<size_t>(std::countr_zero(bits));
        if (id < first || id >= end) continue;
        if (best == vocab_size || row.logits[id] > row.logits[best] || (row.logits[id] == row.logits[best] && id < best)) best = id;
      }
  };
  look_into(static_cast<size_t>(std::max_element(row.group_max.begin(), row.group_max.end()) - row.group_max.begin()));
  for (size_t i = 0; i < row.group_max.size(); ++i)
    if (best == vocab_size || row.group_max[i] >= row.logits[best]) look_into(i);
  return static_cast<int32_t>(best);
}

// The most probable tokens, best first, the lower id of equals.
std::vector<std::pair<int32_t, float>> best_tokens(const Row& row, int num_top, double log_sum) {
  const size_t count = std::min(static_cast<size_t>(num_top), row.logits.size());
  const float bound = kth_largest(row.group_max, count);
  std::vector<Candidate> found;
  for (size_t i = 0; i < row.group_max.size(); ++i) {
    if (row.group_max[i] < bound) continue;
    auto token_id = static_cast<int32_t>(static_cast<int64_t>(i) * row.group_tokens);
    for (const float logit : row.group(i)) {
      if (logit >= bound) found.push_back({token_id, logit});
      ++token_id;
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  std::vector<std::pair<int32_t, float>> best;
  for (size_t i = 0; i < count; ++i)
    best.emplace_back(found[i].token_id, static_cast<float>(found[i].weight - log_sum));
  return best;
}

}  // namespace

bool SamplingOptions::has_penalties() const {
  return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0 || !logit_bias.empty();
}

void check_mask(std::span<const uint32_t> allowed, int64_t vocab_size) {
  if (allowed.empty()) return;
  const auto num_words = (static_cast<size_t>(vocab_size) + kWordBits - 1) / kWordBits;
  if (allowed.size() != num_words)
    throw Error(ErrorKind::usage, message("[engine.sampler] allowed: has ", allowed.size(), " words, expected ", num_words,
                                          ", one for each 32 of ", vocab_size, " tokens. Give a whole mask."));
  const uint32_t last = allowed.back() << (num_words * kWordBits - static_cast<size_t>(vocab_size));
  if (!last && std::all_of(allowed.begin(), allowed.end() - 1, [](uint32_t word) { return word == 0; }))
    throw Error(ErrorKind::usage, "[engine.sampler] allowed: forbids every token, expected one or more. Allow some.");
}

Choice choose_token(const Engine::HeadView& head, int64_t vocab_size, const SamplingOptions& options, float uniform,
                    std::span<const int32_t> seen, std::span<const int32_t> answer,
                    std::span<const uint32_t> allowed, int num_top) {
  const std::span<const float> logits(head.logits, static_cast<size_t>(vocab_size));
  check_mask(allowed, vocab_size);
  const bool is_masked = !allowed.empty(), draws = options.temperature > 0;
  const bool is_cut = options.min_p > 0 || options.top_p < 1 || (options.top_k > 0 && options.top_k < vocab_size);
  OwnRow adjusted(head, logits);
  const bool forbids = is_masked && draws && (is_cut || head.group_tokens % static_cast<int64_t>(kWordBits));
  if (options.has_penalties() || forbids) adjusted.copy();
  if (options.has_penalties()) apply_penalties(adjusted, vocab_size, options, seen, answer);
  Choice choice;
  if (draws) {
    if (forbids) adjusted.forbid(allowed);
    choice.token_id = is_cut ? draw(kept(adjusted.row(), options), uniform)
                             : draw_from_all(adjusted.row(), forbids ? std::span<const uint32_t>() : allowed,
                                             options.temperature, uniform);
  } else if (is_masked) {
    choice.token_id = best_allowed(adjusted.row(), allowed);
  } else {
    choice.token_id = options.has_penalties() ? adjusted.row().best() : head.best_token_id;
  }
  if (num_top >= 0) {
    const double log_sum = log_sum_exp(head, vocab_size);
    choice.logprob = static_cast<float>(logits[static_cast<size_t>(choice.token_id)] - log_sum);
    if (num_top > 0) choice.top = best_tokens(OwnRow(head, logits).row(), num_top, log_sum);
  }
  return choice;
}

}  // namespace gemcut
