// The kernels of one instruction set, as a table of functions. All are pure: no allocation, no exception, no state.
//
// Order of accumulation, the same in every kernel of one instruction set, so that results do not depend on how many
// rows are computed together: a product of a weight row and an input row adds block by block (quantised) or column by
// column (float), in ascending order, into one float; a block's integers are exact.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/packed.h"

namespace gemcut {

// Rows of inputs (T, columns) in the form that a format wants. Rows follow each other at the given strides.
struct Inputs {
  const float* f32 = nullptr;        // (T, stride)
  const uint16_t* bf16 = nullptr;    // (T, stride), pairs
  const int8_t* q8 = nullptr;        // (T, stride), integers in -127..127; `turned`: 128 more, as unsigned bytes
  const float* scale = nullptr;      // (T, scales): value = scale * q8
  const int32_t* minus_sum = nullptr;     // (T, blocks): minus the sum of a block's integers
  const int32_t* minus_sum16 = nullptr;   // (T, 2 blocks): the same of each half block
  const float* minus_scaled_sum = nullptr;  // (T, blocks): scale * minus_sum; narrow scales only
  const int16_t* sum = nullptr;           // (T, blocks): the sum of a block's integers
  const int16_t* sum16 = nullptr;         // (T, 2 blocks)
  int64_t stride = 0;                // of f32, bf16 and q8, in elements; a multiple of 64
  int64_t blocks = 0;                // of 32 columns
  int64_t scales = 0;                // one a block, or (wide) one a super-block, as the format wants
  bool turned = false;
};

// Where a row's integers go; null: not wanted. As in Inputs.
struct QuantisedRow {
  int8_t* q8 = nullptr;
  float* scale = nullptr;
  int32_t* minus_sum = nullptr;
  int32_t* minus_sum16 = nullptr;
  float* minus_scaled_sum = nullptr;
  int16_t* sum = nullptr;
  int16_t* sum16 = nullptr;
  bool turned = false;
};

// A group's weights of up to panel_blocks blocks as signed bytes, beside what their scales and sums are: unpacked once
// for many inputs.
inline constexpr int64_t panel_blocks = 32;
struct alignas(64) Panel {
  std::byte codes[panel_blocks][8][64];
  float scale[2 * panel_blocks][group_rows];
  std::byte start[2 * panel_blocks][64];  // int32 [16]: -128 times the sum of the weights under one scale
  float minimum[panel_blocks][group_rows];
  std::byte pairs[panel_blocks][64];      // int16 [16][2]
};

// One group of 16 rows times T inputs: out[t * out_stride + r], for columns [32 first_block, 32 end_block).
struct MatmulArgs {
  const std::byte* group = nullptr;
  const std::byte* next = nullptr;         // weights that will be read after this group, to fetch ahead; null: none
  const std::byte* low = nullptr;          // format s8: the group's lower bits
  const GroupGeometry* geometry = nullptr;
  int64_t columns = 0;
  int64_t first_block = 0, end_block = 0;  // of 32 columns; float formats: the same unit, the last may be short
  Inputs inputs;
  int64_t first_row = 0, num_rows = 0;     // T
  float* out = nullptr;                    // 64-byte aligned
  int64_t out_stride = 0;                  // in floats, a multiple of 16
  Panel* panel = nullptr;                  // working memory for turned inputs, of which at most panel_blocks at once
};

// Attention of up to any number of query rows over one KV head of one sequence.
// Keys: tiles of 16 slots, bf16 [H/2][16][2] or f32 [H][16]. Values: bf16 [8][H][2] or f32 [16][H] a tile.
struct AttentionArgs {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  int64_t num_slots = 0;             // multiple of attention_block; position p lies in slot (p - num_shared) % num_slots
  const std::byte* shared_keys = nullptr;    // of positions below num_shared, which lie in the slot of their number
  const std::byte* shared_values = nullptr;
  int64_t num_shared = 0;            // multiple of attention_block
  int64_t head_dim = 0;              // H, a multiple of 2
  int64_t window = 0;                // tokens a query sees, its own included; 0: all
  float softcap = 0;                 // 0: none
  const float* const* queries = nullptr;  // num_rows pointers to (H,), scaled and rotated
  float* const* outputs = nullptr;        // num_rows pointers to (H,)
  const int64_t* positions = nullptr;     // of each row
  int64_t num_rows = 0;              // at most attention_rows
  float* scratch = nullptr;          // attention_scratch_floats(H), 64-byte aligned
};
inline constexpr int64_t attention_rows = 8;
inline constexpr int64_t attention_block = 64;  // keys whose scores are held at once, aligned in position
constexpr int64_t attention_scratch_floats(int64_t head_dim) {
  return attention_rows * (2 * ((head_dim + 15) / 16 * 16) + 2 * attention_block + 32);
}

struct Kernels {
  const char* name;
  bool fast_bf16;  // has a bfloat16 dot product
  int64_t panel_rows;  // quantised inputs of a pass of at least so many rows must be turned; 0: never

  // gemcut.model.leaf_ops.matmul on dequantised weights, up to the rounding of the inputs.
  void (*matmul[num_formats])(const MatmulArgs& args);

  // Whole blocks to integers, scale = max |x| / 127: one scale a block, or one for each 8 (columns / 256 of them).
  void (*quantise)(const float* x, int64_t columns, const QuantisedRow& out);
  void (*quantise_wide)(const float* x, int64_t columns, const QuantisedRow& out);
  void (*to_bf16)(const float* x, int64_t count, uint16_t* out);  // nearest even

  // out = x * rsqrt(mean(x^2) + eps) * gain; out may be x. gemcut.model.norm.rms_norm with gain = 1 + w or w.
  void (*rms_norm)(const float* x, const float* gain, float eps, int64_t count, float* out);
  void (*add)(float* x, const float* y, int64_t count);  // x += y
  // Rotates halves in place: cos, sin (H/2,). gemcut.model.rope.apply_rope.
  void (*rope)(float* x, const float* cos, const float* sin, int64_t head_dim);
  void (*scale)(float* x, float factor, int64_t count);
  // out = activation(gate) * up; gelu_tanh or silu. count a multiple of 16. gemcut.model.feed_forward.
  void (*gated_gelu)(const float* gate, const float* up, int64_t count, float* out);
  void (*gated_silu)(const float* gate, const float* up, int64_t count, float* out);
  void (*softcap)(float* x, float cap, int64_t count);            // cap * tanh(x / cap)
  // Largest of x and the lowest index that has it.
  void (*arg_max)(const float* x, int64_t count, float* max, int64_t* index);
  // Largest of x[i] + factor * norms[i], half norms; count a multiple of 16.
  float (*largest_sum)(const float* x, const std::byte* norms, float factor, int64_t count);
  // sum(exp(x - max)), vector lanes added in a fixed order.
  float (*sum_exp)(const float* x, float max, int64_t count);

  // Writes one position's key and value of one head into their slots (bf16 or f32 cache).
  void (*store_bf16)(const float* key, const float* value, int64_t head_dim, int64_t slot, std::byte* keys,
                     std::byte* values);
  void (*store_f32)(const float* key, const float* value, int64_t head_dim, int64_t slot, std::byte* keys,
                    std::byte* values);
  // gemcut.model.attention.attention.
  void (*attention_bf16)(const AttentionArgs& args);
  void (*attention_f32)(const AttentionArgs& args);

  // Multiply-adds done by a fixed burst of the int8 dot product, to measure the peak: runs `rounds` rounds.
  int64_t (*int8_burst)(int64_t rounds);
};

// The best table for this processor, or the one GEMCUT_ISA names. Throws Error (usage) for a name that is unknown or
// not runnable here.
const Kernels& choose_kernels();
// Every table that this processor can run, slowest first, for the tests.
int runnable_kernels(const Kernels** out, int capacity);

// Multiply-adds per second of the int8 dot product on `num_threads` threads.
double int8_peak_mac_per_second(int num_threads);

}  // namespace gemcut
