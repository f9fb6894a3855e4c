// Kernels in plain C++, for any processor.
#include "kernels/kernels.h"

#define GEMCUT_FEW_TILES

namespace gemcut {
namespace isa_portable {
#include "kernels/templates.inl"
#include "kernels/simd_portable.h"
#include "kernels/matmul.inl"
#include "kernels/rows.inl"
#include "kernels/attention.inl"
#include "kernels/table.inl"
}  // namespace isa_portable

const Kernels& portable_kernels() {
#if defined(__aarch64__)
  const char* const name = "neon";  // what the compiler makes of plain C++ there
#else
  const char* const name = "portable";
#endif
  static const Kernels table = isa_portable::make_table(name, false);
  return table;
}

}  // namespace gemcut
