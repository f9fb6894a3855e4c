// Kernels in plain C++, for any processor.
#include "kernels/kernels.h"

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
  static const Kernels table = isa_portable::make_table("portable", false);
  return table;
}

}  // namespace gemcut
