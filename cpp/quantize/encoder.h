#pragma once
// Weights into ggml's blocks, with the codes and scales of least weighted error.
#include <cstddef>
#include <cstdint>

namespace gemcut {

// The numbers that a GGUF file writes for the types that can be encoded; gemcut.quantize.ggml_types has them all.
enum class BlockType : int32_t {
  q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14,
};

struct BlockSize {
  int values, bytes;
};
constexpr BlockSize block_size(BlockType type) {
  switch (type) {
    case BlockType::q4_0: return {32, 18};
    case BlockType::q4_1: return {32, 20};
    case BlockType::q5_0: return {32, 22};
    case BlockType::q5_1: return {32, 24};
    case BlockType::q8_0: return {32, 34};
    case BlockType::q2_k: return {256, 84};
    case BlockType::q3_k: return {256, 110};
    case BlockType::q4_k: return {256, 144};
    case BlockType::q5_k: return {256, 176};
    case BlockType::q6_k: return {256, 210};
  }
  return {0, 0};
}

// One instruction set's encoder: float32 (num_rows, columns) with rows one after the other, weights float32 (columns,)
// finite and above zero, into bytes (num_rows, row_bytes).
struct Encoder {
  const char* name;
  int lanes;
  void (*encode)(BlockType type, const float* x, int64_t num_rows, int64_t columns, const float* weights, uint8_t* out);
};

// The encoders that this processor runs, slowest first; all give the same bytes. Returns how many.
int runnable_encoders(const Encoder** out, int capacity);

// Rows shared by threads (0: one for each core that may be used), on the fastest encoder; the bytes do not depend on
// their number. Equals gemcut.quantize.quantize.
void quantise_rows(BlockType type, const float* x, int64_t num_rows, int64_t columns, const float* weights,
                   uint8_t* out, int num_threads);

// Place of the first value that is NaN or whose magnitude is above `limit`; -1 if there is none.
int64_t first_beyond(const float* x, int64_t count, float limit);

}  // namespace gemcut
