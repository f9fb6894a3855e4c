// Rows of inputs in every form that the matrices that multiply them want, in memory that is kept between passes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "kernels/kernels.h"

namespace gemcut {

// Zeroed memory for floats and the like, aligned to 64 bytes; what is never touched costs no memory.
template <class T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(int64_t count)
      : memory_(std::calloc(static_cast<size_t>(count * static_cast<int64_t>(sizeof(T)) + 64), 1)) {
    if (!memory_) throw std::bad_alloc();
    first_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) / 64 * 64);
  }
  T* data() const { return first_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  T* first_ = nullptr;
};

class InputRows {
 public:
  InputRows() = default;
  // Room for `max_rows` rows of `columns`, in the forms that `formats` want.
  InputRows(int64_t columns, int64_t max_rows, const std::vector<Format>& formats);

  // Before the rows of a pass: how many there will be.
  void begin(const Kernels& kernels, int64_t num_rows);
  // Takes in columns [first, first + count) of row `row`; first and count are multiples of unit(), but for the last part.
  void set(const Kernels& kernels, int64_t row, int64_t first, int64_t count, const float* x);
  int64_t unit() const { return wide_.wanted ? block_columns * super_blocks : block_columns; }
  const Inputs& view(Format format) const { return wants_wide(format) ? wide_.view : narrow_.view; }

 private:
  // Integers under scales of one width.
  struct Integers {
    bool wanted = false;
    AlignedArray<int8_t> q8;
    AlignedArray<float> scale, minus_scaled_sum;
    AlignedArray<int32_t> minus_sum, minus_sum16;
    AlignedArray<int16_t> sum, sum16;
    Inputs view;
  };
  void want(Integers& integers, Format format, int64_t max_rows);
  static QuantisedRow row_at(const Integers& integers, int64_t row, int64_t first, int64_t scale_columns);

  AlignedArray<float> f32_;
  AlignedArray<uint16_t> bf16_;
  Integers narrow_, wide_;
};

}  // namespace gemcut
