// Kernels for aarch64 with the 8-bit dot product (ARMv8.2 DotProd).
#include <arm_neon.h>

#include "kernels/kernels.h"

#define GEMCUT_FEW_TILES

#define GEMCUT_OWN_DOT4
namespace gemcut {
namespace isa_neon_dotprod {
#include "kernels/templates.inl"
#include "kernels/simd_portable.h"
#include "kernels/simd_neon_dot.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_neon_dotprod

const Kernels& neon_dotprod_kernels() {
  static const Kernels table = isa_neon_dotprod::make_table("neon_dotprod", false);
  return table;
}

}  // namespace gemcut
