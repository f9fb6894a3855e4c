// Kernels for x86-64 with AVX-512 (VNNI, VBMI, BF16).
#include <immintrin.h>

#include "kernels/kernels.h"

#define GEMCUT_BF16
namespace gemcut {
namespace isa_avx512_bf16 {
#include "kernels/templates.inl"
#include "kernels/simd_avx512.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_avx512_bf16

const Kernels& avx512_bf16_kernels() {
  static const Kernels table = isa_avx512_bf16::make_table("avx512_bf16", true);
  return table;
}

}  // namespace gemcut
