#include "engine/input_rows.h"

#include <cstring>

namespace gemcut {
namespace {

constexpr int64_t wide_columns = block_columns * super_blocks;

template <class T>
void make(AlignedArray<T>& array, int64_t count) {
  if (!array.data()) array = AlignedArray<T>(count);
}

template <class T>
T* moved(T* array, int64_t by) {
  return array ? array + by : nullptr;
}

}  // namespace

InputRows::InputRows(int64_t columns, int64_t max_rows, const std::vector<Format>& formats) {
  Inputs& view = narrow_.view;
  view.stride = (columns + 63) / 64 * 64;
  if (view.stride % 1024 == 0) view.stride += 64;  // or all rows of a tile would share a few sets of the caches
  view.blocks = view.scales = view.stride / block_columns;
  wide_.view = view;
  wide_.view.scales = (columns + wide_columns - 1) / wide_columns;
  for (const Format format : formats) {
    if (is_quantised(format)) want(wants_wide(format) ? wide_ : narrow_, format, max_rows);
    else if (format == Format::bf16) make(bf16_, max_rows * view.stride);
    else make(f32_, max_rows * view.stride);
  }
  view.f32 = f32_.data();
  view.bf16 = bf16_.data();
}

void InputRows::want(Integers& integers, Format format, int64_t max_rows) {
  const FormatTraits& traits = traits_of(format);
  const int64_t blocks = max_rows * integers.view.blocks;
  const bool halves = traits.scale_columns * 2 == block_columns;
  integers.wanted = true;
  make(integers.q8, max_rows * integers.view.stride);
  make(integers.scale, max_rows * integers.view.scales);
  if (traits.offset_shift >= 0 && !halves) make(integers.minus_sum, blocks);
  if (traits.offset_shift >= 0 && halves) make(integers.minus_sum16, 2 * blocks);
  if (traits.has_minimum && !traits.two_level) make(integers.minus_scaled_sum, blocks);
  if (traits.has_minimum && traits.two_level && !halves) make(integers.sum, blocks);
  if (traits.has_minimum && traits.two_level && halves) make(integers.sum16, 2 * blocks);
  Inputs& view = integers.view;
  view.q8 = integers.q8.data();
  view.scale = integers.scale.data();
  view.minus_sum = integers.minus_sum.data();
  view.minus_sum16 = integers.minus_sum16.data();
  view.minus_scaled_sum = integers.minus_scaled_sum.data();
  view.sum = integers.sum.data();
  view.sum16 = integers.sum16.data();
}

void InputRows::begin(const Kernels& kernels, int64_t num_rows) {
  narrow_.view.turned = wide_.view.turned = kernels.panel_rows && num_rows >= kernels.panel_rows;
}

QuantisedRow InputRows::row_at(const Integers& integers, int64_t row, int64_t first, int64_t scale_columns) {
  const Inputs& view = integers.view;
  const int64_t block = row * view.blocks + first / block_columns;
  QuantisedRow out;
  out.turned = view.turned;
  out.q8 = integers.q8.data() + row * view.stride + first;
  out.scale = integers.scale.data() + row * view.scales + first / scale_columns;
  out.minus_scaled_sum = moved(integers.minus_scaled_sum.data(), block);
  out.sum = moved(integers.sum.data(), block);
  out.sum16 = moved(integers.sum16.data(), 2 * block);
  if (view.turned) return out;  // panels need no sums for their offsets
  out.minus_sum = moved(integers.minus_sum.data(), block);
  out.minus_sum16 = moved(integers.minus_sum16.data(), 2 * block);
  return out;
}

void InputRows::set(const Kernels& kernels, int64_t row, int64_t first, int64_t count, const float* x) {
  const int64_t at = row * narrow_.view.stride + first;
  if (f32_.data()) std::memcpy(f32_.data() + at, x, static_cast<size_t>(count) * sizeof(float));
  if (bf16_.data()) kernels.to_bf16(x, count, bf16_.data() + at);
  if (narrow_.wanted) kernels.quantise(x, count, row_at(narrow_, row, first, block_columns));
  if (wide_.wanted) kernels.quantise_wide(x, count, row_at(wide_, row, first, wide_columns));
}

}  // namespace gemcut
