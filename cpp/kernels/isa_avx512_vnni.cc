// Kernels for x86-64 with AVX-512 (VNNI, VBMI).
#include <immintrin.h>

#include "kernels/kernels.h"

namespace gemcut {
namespace isa_avx512_vnni {
#include "kernels/templates.inl"
#include "kernels/simd_avx512.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_avx512_vnni

const Kernels& avx512_vnni_kernels() {
  static const Kernels table = isa_avx512_vnni::make_table("avx512_vnni", false);
  return table;
}

}  // namespace gemcut
