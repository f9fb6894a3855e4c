// Rows of inputs in every form that the matrices that multiply them want, in memory that is kept between passes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"

namespace gemcut {

// Memory for floats and the like, aligned to 64 bytes.
template <class T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(int64_t count)
      : memory_(static_cast<size_t>(count * static_cast<int64_t>(sizeof(T)) + 64)) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    first_ = reinterpret_cast<T*>((address + 63) / 64 * 64);
  }
  AlignedArray(AlignedArray&&) = default;
  AlignedArray& operator=(AlignedArray&&) = default;
  T* data() const { return first_; }

 private:
  std::vector<std::byte> memory_;
  T* first_ = nullptr;
};

class InputRows {
 public:
  InputRows() = default;
  // Room for `max_rows` rows of `columns`, in the forms that `formats` want.
  InputRows(int64_t columns, int64_t max_rows, const std::vector<Format>& formats);

  // Takes in columns [first, first + count) of row `row`; first and count are multiples of 32, but for the last part.
  void set(const Kernels& kernels, int64_t row, int64_t first, int64_t count, const float* x);
  const Inputs& view() const { return view_; }

 private:
  bool wants_q8_ = false, wants_bf16_ = false, wants_f32_ = false;
  AlignedArray<float> f32_, scale_, minus_scaled_sum_;
  AlignedArray<uint16_t> bf16_;
  AlignedArray<int8_t> q8_;
  AlignedArray<int32_t> minus_sum_, minus_sum16_;
  Inputs view_;
};

}  // namespace gemcut
