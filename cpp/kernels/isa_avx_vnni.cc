// Kernels for x86-64 with AVX2, FMA, F16C and AVX-VNNI.
#include <immintrin.h>

#include "kernels/kernels.h"

#define GEMCUT_VNNI
namespace gemcut {
namespace isa_avx_vnni {
#include "kernels/templates.inl"
#include "kernels/simd_avx2.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_avx_vnni

const Kernels& avx_vnni_kernels() {
  static const Kernels table = isa_avx_vnni::make_table("avx_vnni", false);
  return table;
}

}  // namespace gemcut
