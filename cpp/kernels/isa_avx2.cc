// Kernels for x86-64 with AVX2, FMA and F16C.
#include <immintrin.h>

#include "kernels/kernels.h"

namespace gemcut {
namespace isa_avx2 {
#include "kernels/templates.inl"
#include "kernels/simd_avx2.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_avx2

const Kernels& avx2_kernels() {
  static const Kernels table = isa_avx2::make_table("avx2", false);
  return table;
}

}  // namespace gemcut
