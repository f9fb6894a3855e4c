#include "engine/input_rows.h"

#include <cstring>

namespace gemcut {

InputRows::InputRows(int64_t columns, int64_t max_rows, const std::vector<Format>& formats) {
  for (const Format format : formats) {
    if (is_quantised(format)) wants_q8_ = true;
    else if (format == Format::bf16) wants_bf16_ = true;
    else wants_f32_ = true;
  }
  view_.stride = (columns + 63) / 64 * 64;
  view_.blocks = view_.stride / block_columns;
  const int64_t values = max_rows * view_.stride, blocks = max_rows * view_.blocks;
  if (wants_f32_) f32_ = AlignedArray<float>(values);
  if (wants_bf16_) bf16_ = AlignedArray<uint16_t>(values);
  if (wants_q8_) {
    q8_ = AlignedArray<int8_t>(values);
    scale_ = AlignedArray<float>(blocks);
    minus_scaled_sum_ = AlignedArray<float>(blocks);
    minus_sum_ = AlignedArray<int32_t>(blocks);
    minus_sum16_ = AlignedArray<int32_t>(2 * blocks);
  }
  view_.f32 = f32_.data();
  view_.bf16 = bf16_.data();
  view_.q8 = q8_.data();
  view_.scale = scale_.data();
  view_.minus_scaled_sum = minus_scaled_sum_.data();
  view_.minus_sum = minus_sum_.data();
  view_.minus_sum16 = minus_sum16_.data();
}

void InputRows::set(const Kernels& kernels, int64_t row, int64_t first, int64_t count, const float* x) {
  const int64_t at = row * view_.stride + first, block = row * view_.blocks + first / block_columns;
  if (wants_f32_) std::memcpy(f32_.data() + at, x, static_cast<size_t>(count) * sizeof(float));
  if (wants_bf16_) kernels.to_bf16(x, count, bf16_.data() + at);
  if (wants_q8_)
    kernels.quantise(x, count, q8_.data() + at, scale_.data() + block, minus_sum_.data() + block,
                     minus_sum16_.data() + 2 * block, minus_scaled_sum_.data() + block);
}

}  // namespace gemcut
