// One stored tensor, as the checkpoint holds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace gemcut {

// ggml's numbers of the types that Gemcut computes with.
enum class TensorType : uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, iq4_nl = 20, iq4_xs = 23, bf16 = 30,
};

// What must be done to a stored tensor to get ours (Python: checkpoint.names.Transform).
enum class Transform : uint8_t {
  none,
  minus_one,         // a norm's gain stored as 1 + w
  unpermute_query,   // Llama's query rows in adjacent pairs; N heads
  unpermute_key,     // the same for keys; K heads
};

// Mapped, not copied: `data` lives as long as its Checkpoint.
struct Tensor {
  std::string name;    // Hugging Face's text-model name, such as "model.layers.0.self_attn.q_proj.weight"
  std::string source;  // the name in the file
  TensorType type = TensorType::f32;
  int64_t rows = 0;    // out; 1 for a vector
  int64_t columns = 0; // in
  Transform transform = Transform::none;
  const std::byte* data = nullptr;
  size_t num_bytes = 0;
  size_t file = 0;           // which of the checkpoint's files holds it
  uint64_t file_offset = 0;  // where in that file `data` lies, in bytes
};

struct TypeTraits {
  const char* name;       // "Q4_K"
  int64_t block_values;   // numbers in one block
  int64_t block_bytes;
};
// Throws ErrorKind::checkpoint for a type that is not computed with.
const TypeTraits& type_traits(TensorType type);

// Row `row` of a tensor in float32, whatever its type; portable, for loading and for tests.
// Equals gemcut.quantize.dequantize.
void dequantize_row(TensorType type, const std::byte* row_data, int64_t columns, float* out);

}  // namespace gemcut
