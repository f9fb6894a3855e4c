// The decoder's arithmetic for a few rows (tokens of one or more sequences) at a time: what
// gemcut.model.decoder computes, stage by stage on all threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/adapter_pass.h"
#include "engine/input_rows.h"
#include "engine/sequence.h"
#include "engine/thread_pool.h"
#include "engine/weights.h"

namespace gemcut {

// One token of a pass.
struct PassRow {
  CpuSequence* sequence = nullptr;
  int64_t position = 0;
  int32_t token_id = 0;
};

// Tokens whose logits are kept with their statistics: ids [item, item + 1) * head_tokens share one maximum.
inline constexpr int64_t head_tokens = 1024;
inline constexpr int64_t head_rows = 128;  // rows of logits computed at once

// A token whose probability after a row is wanted.
struct RowTarget {
  int64_t row = 0;        // index in the rows that are asked for
  int32_t token_id = 0;
};

class Forward {
 public:
  Forward(const Config& config, const Weights& weights, const Adapter& adapter, const Kernels& kernels, ThreadPool& pool,
          CacheType cache_type);

  // Computes up to max_pass_rows rows; rows of one sequence follow each other with ascending positions. Keys and
  // values are stored; the rows' hidden states before the final norm stay inside.
  void run(std::span<const PassRow> rows);

  // Of the last run's rows `which`: hidden states after the final norm, (rows, D).
  void final_hidden(std::span<const int64_t> which, float* out);
  // Of the same rows: logits (rows, logits_stride()), soft-capped, and the largest of each head_tokens ids.
  void logits(std::span<const int64_t> which, float* out, float* group_max);
  // Of one row, reading less: of the tokens that `allowed` (as choose_token has it) names, one at least, the largest logit
  // and every one equal to it are exact, the others below it. Those forbidden say nothing, but count in group_max.
  // False if the head's format does not allow it, or logits are not finite: then nothing useful was done.
  bool best_logit(int64_t which, std::span<const uint32_t> allowed, float* out, float* group_max);
  // Of the same rows, without keeping their logits: how probable some tokens are. The targets ascend by row.
  void score(std::span<const int64_t> which, std::span<const RowTarget> targets, TokenScore* out);
  int64_t logits_stride() const { return vocab_stride_; }
  int64_t num_groups() const { return (config_.vocab_size + head_tokens - 1) / head_tokens; }

 private:
  // One matrix of a stage and where its products go.
  struct Product {
    const PackedMatrix* matrix;
    float* out;
    int64_t stride;
    const LowRankUpdate* update = nullptr;
  };
  struct AttentionItem {
    int64_t first_row;   // of the pass: rows of one sequence
    int64_t first;       // query: row-major over (row, query head of the group)
    int64_t count;
    int64_t kv_head;
  };

  struct FeedForwardTile {
    int64_t first_column;
    int64_t first_row, rows;
    int64_t next_column;  // whose weights are read next; negative: none
  };

  void plan_attention();
  void embed(int thread);
  // use(item, next) for all items, then use_row(row) for all rows.
  template <class Use, class UseRow>
  void share_then_rows(int64_t items, int thread, Use&& use, UseRow&& use_row);
  // All products of the same inputs, then use_row for all rows. `after` is the matrix that will be read next.
  template <class UseRow>
  void multiply(std::initializer_list<Product> products, const InputRows& inputs, int thread, const PackedMatrix* after,
                UseRow&& use_row);
  void multiply_group(const Product& product, int64_t group, const std::byte* next, const InputRows& inputs,
                      int64_t num_rows, int thread, int64_t first_row = 0);
  void normalise_input(size_t layer, int64_t row);
  void place_heads(size_t layer, int64_t row);
  void attend(size_t layer, const AttentionItem& item, int thread);
  void feed_forward(size_t layer, int thread);
  void gate_and_up(size_t layer, const FeedForwardTile& tile, int thread, float* out, int64_t stride);
  void after_attention(size_t layer, int64_t row);
  void after_feed_forward(size_t layer, int64_t row);
  void run_layer(size_t layer, int thread);
  float screened_norm() const;
  void screen_item(int64_t item, int64_t next, float* out, float* largest, float* bounds, float factor);
  void settle_item(int64_t item, float* out, float* largest, float bound, float factor, float least);
  uint32_t allowed_lanes(int64_t group) const;
  void head_group(const PackedMatrix& matrix, int64_t group, const std::byte* next, float* out);
  void head_input(int64_t which, int64_t row);
  void score_part(std::span<const int64_t> which, std::span<const RowTarget> targets, int64_t first_row, TokenScore* out);
  void cap_item(int64_t item, float* row, float* largest);
  float* row_of(const AlignedArray<float>& array, int64_t row, int64_t stride) const { return array.data() + row * stride; }

  const Config& config_;
  const Weights& weights_;
  const Adapter& adapter_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  AdapterPass adapter_pass_;
  const CacheType cache_type_;
  const int64_t width_, query_width_, kv_width_, ffn_width_, vocab_stride_;  // D, N H, K H, F, V, rounded up to 16
  const float query_scale_, embedding_scale_;

  std::span<const PassRow> rows_;
  int64_t num_rows_ = 0;
  std::vector<AttentionItem> attention_items_;
  AlignedArray<float> x_, out_, queries_, keys_, values_, attended_;
  InputRows hidden_inputs_, attended_inputs_, ffn_inputs_, head_inputs_;
  AlignedArray<float> cos_, sin_;          // [kind of layer][row][H / 2]
  std::vector<float> inverse_frequencies_[2];
  std::vector<AlignedArray<float>> scratch_;  // of each thread
  std::vector<AlignedArray<Panel>> panels_;   // of each thread
  AlignedArray<float> ffn_;                   // gated values of few rows
  AlignedArray<float> head_hidden_;
  std::vector<AlignedArray<float>> head_scratch_;  // of each thread: one item's logits; made when they are first needed
  std::vector<float> screen_bounds_;  // of each item of the head: no logit in it is larger
  std::span<const uint32_t> allowed_; // the tokens that the choice is from, while it is screened
};

}  // namespace gemcut
