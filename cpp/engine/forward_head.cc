// The output head of the forward pass: logits, the best one of them by screening, and scores without keeping logits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/forward.h"

namespace gemcut {
namespace {

constexpr int64_t mask_tokens = 32;        // of one word of a mask
constexpr float forbidden_logit = -1e30f;  // below any that is finite and can be; finite, so that a soft cap takes it
constexpr uint32_t all_lanes = (1u << group_rows) - 1;
constexpr float rounding_slack = 1e-3f;    // far above what two orders of float32 sums of one logit can differ
constexpr double largest_screened_caps = 4;  // up to there rounding_slack is more than a soft cap's own rounding

}  // namespace

void Forward::final_hidden(std::span<const int64_t> which, float* out) {
  for (size_t i = 0; i < which.size(); ++i)
    kernels_.rms_norm(row_of(x_, which[i], width_), weights_.final_norm, static_cast<float>(config_.rms_norm_eps),
                      config_.hidden_size, out + static_cast<int64_t>(i) * config_.hidden_size);
}

void Forward::head_input(int64_t which, int64_t row) {
  float* hidden = row_of(head_hidden_, row, width_);
  final_hidden(std::span(&which, 1), hidden);
  head_inputs_.set(kernels_, row, 0, config_.hidden_size, hidden);
}

// Soft cap and largest logit of one item of a row.
void Forward::cap_item(int64_t item, float* row, float* largest) {
  const int64_t tokens = std::min(head_tokens, config_.vocab_size - item * head_tokens);
  if (config_.final_logit_softcapping)
    kernels_.softcap(row, static_cast<float>(*config_.final_logit_softcapping), tokens);
  int64_t index;
  kernels_.arg_max(row, tokens, largest, &index);
}

void Forward::logits(std::span<const int64_t> which, float* out, float* group_max) {
  const int64_t items = num_groups(), item_groups = head_tokens / group_rows;
  for (size_t begin = 0; begin < which.size(); begin += head_rows) {
    const int64_t count = std::min<int64_t>(head_rows, static_cast<int64_t>(which.size() - begin));
    float* const part = out + static_cast<int64_t>(begin) * vocab_stride_;
    float* const part_max = group_max + static_cast<int64_t>(begin) * items;
    const auto multiply_item = [&](int64_t item, int64_t next, int thread) {
      const int64_t first = item * item_groups, end = std::min(first + item_groups, weights_.head.num_groups());
      for (int64_t group = first; group < end; ++group) {
        const std::byte* following = next < 0 ? nullptr : weights_.head.group(next * item_groups);
        if (group + 1 < end) following = weights_.head.group(group + 1);
        multiply_group({&weights_.head, part, vocab_stride_}, group, following, head_inputs_, count, thread);
      }
      for (int64_t i = 0; i < count; ++i)
        cap_item(item, part + i * vocab_stride_ + item * head_tokens, part_max + i * items + item);
    };
    head_inputs_.begin(kernels_, count);
    pool_.run([&](int thread) {
      pool_.share(thread, count, [&](int64_t i) { head_input(which[begin + static_cast<size_t>(i)], i); });
      pool_.share(thread, items, [&](int64_t item, int64_t next) { multiply_item(item, next, thread); }, [] {});
    });
  }
}

void Forward::score(std::span<const int64_t> which, std::span<const RowTarget> targets, TokenScore* out) {
  while (static_cast<int>(head_scratch_.size()) < pool_.num_threads()) head_scratch_.emplace_back(head_rows * head_tokens);
  for (size_t begin = 0; begin < which.size(); begin += head_rows) {
    const auto end = static_cast<int64_t>(std::min(begin + head_rows, which.size()));
    const auto past = [&](const RowTarget& target) { return target.row < end; };
    const auto count = static_cast<size_t>(std::partition_point(targets.begin(), targets.end(), past) - targets.begin());
    score_part(which.subspan(begin, static_cast<size_t>(end) - begin), targets.first(count), static_cast<int64_t>(begin), out);
    targets = targets.subspan(count);
    out += count;
  }
}

// An item's logits stay in the cache of the thread that computes them: what is wanted of them is taken at once. Sums are
// added item by item in ascending order, whoever computed them.
void Forward::score_part(std::span<const int64_t> which, std::span<const RowTarget> targets, int64_t first_row,
                         TokenScore* out) {
  const int64_t items = num_groups(), item_groups = head_tokens / group_rows, count = static_cast<int64_t>(which.size());
  std::vector<float> largest(which.size() * static_cast<size_t>(items)), sums(largest.size()), chosen(targets.size());
  std::vector<std::vector<size_t>> wanted(static_cast<size_t>(items));
  for (size_t i = 0; i < targets.size(); ++i) wanted[static_cast<size_t>(targets[i].token_id / head_tokens)].push_back(i);
  const auto score_item = [&](int64_t item, int64_t next, int thread) {
    float* const logits = head_scratch_[static_cast<size_t>(thread)].data();
    const int64_t first = item * item_groups, end = std::min(first + item_groups, weights_.head.num_groups());
    for (int64_t group = first; group < end; ++group) {
      const std::byte* following = next < 0 ? nullptr : weights_.head.group(next * item_groups);
      if (group + 1 < end) following = weights_.head.group(group + 1);
      multiply_group({&weights_.head, logits - first * group_rows, head_tokens}, group, following, head_inputs_, count, thread);
    }
    const int64_t tokens = std::min(head_tokens, config_.vocab_size - item * head_tokens);
    for (int64_t i = 0; i < count; ++i) {
      const auto place = static_cast<size_t>(i * items + item);
      cap_item(item, logits + i * head_tokens, &largest[place]);
      sums[place] = kernels_.sum_exp(logits + i * head_tokens, largest[place], tokens);
    }
    for (const size_t i : wanted[static_cast<size_t>(item)])
      chosen[i] = logits[(targets[i].row - first_row) * head_tokens + targets[i].token_id % head_tokens];
  };
  head_inputs_.begin(kernels_, count);
  pool_.run([&](int thread) {
    pool_.share(thread, count, [&](int64_t i) { head_input(which[static_cast<size_t>(i)], i); });
    pool_.share(thread, items, [&](int64_t item, int64_t next) { score_item(item, next, thread); }, [] {});
  });
  for (size_t i = 0; i < targets.size(); ++i) {
    const float* const row = largest.data() + (targets[i].row - first_row) * items;
    const float* const row_sums = sums.data() + (targets[i].row - first_row) * items;
    const float most = *std::max_element(row, row + items);
    double sum = 0;
    for (int64_t item = 0; item < items; ++item) sum += row_sums[item] * std::exp(static_cast<double>(row[item]) - most);
    out[i] = {static_cast<float>(chosen[i] - most - std::log(sum)), chosen[i] >= most};
  }
}

// What the head's lower bits can add to a logit is at most their row's norm times this (Cauchy and Schwarz), the
// rounding of the sums included.
float Forward::screened_norm() const {
  const Inputs& in = head_inputs_.view(weights_.head.format);
  double squares = 0;
  for (int64_t c = 0; c < config_.hidden_size; ++c) {
    const double x = static_cast<double>(in.scale[c / block_columns]) * in.q8[c];
    squares += x * x;
  }
  return static_cast<float>(std::sqrt(squares) * 1.001);
}

// One bit for each token of a group of the head; those beyond the vocabulary do not count.
uint32_t Forward::allowed_lanes(int64_t group) const {
  if (allowed_.empty()) return all_lanes;
  const auto word = static_cast<size_t>(group * group_rows / mask_tokens);
  return word < allowed_.size() ? allowed_[word] >> (group * group_rows % mask_tokens) & all_lanes : 0;
}

// The logits of one group of one row; those that are forbidden become very low, and a group of only such is not read.
void Forward::head_group(const PackedMatrix& matrix, int64_t group, const std::byte* next, float* out) {
  const uint32_t lanes = allowed_lanes(group);
  if (lanes) multiply_group({&matrix, out, vocab_stride_}, group, next, head_inputs_, 1, 0);
  if (lanes == all_lanes) return;
  for (int64_t i = 0; i < group_rows; ++i)
    if (!(lanes >> i & 1)) out[group * group_rows + i] = forbidden_logit;
}

void Forward::screen_item(int64_t item, int64_t next, float* out, float* largest, float* bounds, float factor) {
  const int64_t item_groups = head_tokens / group_rows, first = item * item_groups;
  const int64_t end = std::min(first + item_groups, weights_.head.num_groups());
  PackedMatrix screen = weights_.head;
  screen.format = Format::s8_screen;
  for (int64_t group = first; group < end; ++group) {
    const std::byte* following = next < 0 ? nullptr : screen.group(next * item_groups);
    if (group + 1 < end) following = screen.group(group + 1);
    head_group(screen, group, following, out);
  }
  float* const row = out + item * head_tokens;
  const int64_t tokens = std::min(head_tokens, config_.vocab_size - item * head_tokens);
  int64_t index;
  kernels_.arg_max(row, tokens, largest, &index);
  *bounds = kernels_.largest_sum(row, screen.low_norms(first), factor, (end - first) * group_rows);
}

// Computes exactly what in this item may reach `least`.
void Forward::settle_item(int64_t item, float* out, float* largest, float bound, float factor, float least) {
  const int64_t item_groups = head_tokens / group_rows, first = item * item_groups;
  const int64_t end = std::min(first + item_groups, weights_.head.num_groups());
  for (int64_t group = first; bound >= least && group < end; ++group)
    if (kernels_.largest_sum(out + group * group_rows, weights_.head.low_norms(group), factor, group_rows) >= least)
      head_group(weights_.head, group, nullptr, out);
  cap_item(item, out + item * head_tokens, largest);
}

bool Forward::best_logit(int64_t which, std::span<const uint32_t> allowed, float* out, float* group_max) {
  if (weights_.head.format != Format::s8) return false;
  allowed_ = allowed;
  const int64_t items = num_groups();
  screen_bounds_.resize(static_cast<size_t>(items));
  head_inputs_.begin(kernels_, 1);
  float factor = 0, least = 0;
  // The exact logit of the most promising token is reached by every token that may be the best.
  const auto find_least = [&] {
    const int64_t item = std::max_element(group_max, group_max + items) - group_max;
    float* const row = out + item * head_tokens;
    const float* const best = std::max_element(row, row + std::min(head_tokens, config_.vocab_size - item * head_tokens));
    const int64_t group = (best - out) / group_rows, lane = (best - out) % group_rows;
    head_group(weights_.head, group, nullptr, out);
    const float exact = out[group * group_rows + lane];
    least = exact - rounding_slack * (1.0f + std::abs(exact));
    // Logits far above the cap become the cap itself, and the lowest of equal ones counts: all must be computed.
    const double cap = config_.final_logit_softcapping.value_or(0.0);
    if (cap > 0 && std::abs(exact) > largest_screened_caps * cap) least = std::numeric_limits<float>::infinity();
  };
  pool_.run([&](int thread) {
    pool_.share(thread, 1, [&](int64_t, int64_t) { head_input(which, 0); }, [&] { factor = screened_norm(); });
    pool_.share(thread, items, [&](int64_t item, int64_t next) {
      screen_item(item, next, out, group_max + item, &screen_bounds_[static_cast<size_t>(item)], factor);
    }, find_least);
    pool_.share(thread, items, [&](int64_t item) {
      settle_item(item, out, group_max + item, screen_bounds_[static_cast<size_t>(item)], factor, least);
    });
  });
  allowed_ = {};
  return std::isfinite(least);
}

}  // namespace gemcut
