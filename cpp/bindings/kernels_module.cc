// gemcut._kernels: what the low layers need of C++, without the engine. Arrays in, arrays out; the GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "quantize/encoder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace gemcut {
namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Row = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void quantize(const Matrix& values, int type, const Row& weights, const Bytes& out, int num_threads) {
  const nb::gil_scoped_release released;
  quantise_rows(static_cast<BlockType>(type), values.data(), static_cast<int64_t>(values.shape(0)),
                static_cast<int64_t>(values.shape(1)), weights.data(), out.data(), num_threads);
}

int64_t place_beyond(const Matrix& values, float limit) {
  const nb::gil_scoped_release released;
  return first_beyond(values.data(), static_cast<int64_t>(values.size()), limit);
}

}  // namespace

NB_MODULE(_kernels, module) {
  module.doc() = "Gemcut's C++ number formats; gemcut.quantize is their face and checks what goes in.";
  module.def("quantize", &quantize, "values"_a, "type"_a, "weights"_a, "out"_a, "num_threads"_a);
  module.def("first_beyond", &place_beyond, "values"_a, "limit"_a);
}

}  // namespace gemcut
