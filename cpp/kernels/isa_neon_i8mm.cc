// Kernels for aarch64 with mixed-sign 8-bit products (ARMv8.2 I8MM).
#include <arm_neon.h>

#include "kernels/kernels.h"

#define GEMCUT_FEW_TILES

#define GEMCUT_OWN_DOT4
#define GEMCUT_I8MM
namespace gemcut {
namespace isa_neon_i8mm {
#include "kernels/templates.inl"
#include "kernels/simd_portable.h"
#include "kernels/simd_neon_dot.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_neon_i8mm

const Kernels& neon_i8mm_kernels() {
  static const Kernels table = isa_neon_i8mm::make_table("neon_i8mm", false);
  return table;
}

}  // namespace gemcut
