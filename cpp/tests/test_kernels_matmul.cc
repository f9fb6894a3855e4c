// The products of every table against double precision on the very inputs it gets: gemcut.model.leaf_ops.matmul on
// dequantised weights.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/kernel_cases.h"

namespace {

using gemcut::block_columns;
using gemcut::Format;
using gemcut::group_rows;
using gemcut::Inputs;
using gemcut::InputRows;
using gemcut::Kernels;
using gemcut::TensorType;
using gemcut::testing::check_close;
using gemcut::testing::check_same_bits;
using gemcut::testing::MatrixCase;
using gemcut::testing::Random;
using gemcut::testing::StoredKind;

// One matrix and its inputs in the form its format wants.
struct Product {
  Product(const Kernels& table, const MatrixCase& one, int64_t num_rows, Random& random)
      : kernels(table),
        weights(one),
        rows(num_rows),
        stride(weights.matrix.num_groups() * group_rows),
        inputs(weights.matrix.columns, num_rows, {weights.matrix.format}),
        turned(weights.matrix.columns, num_rows, {weights.matrix.format}) {
    turned.begin(kernels, kernels.panel_rows);
    for (int64_t t = 0; t < num_rows; ++t) set(t, random.floats(weights.matrix.columns, 1.5f).data());
  }

  void set(int64_t t, const float* x) {
    inputs.set(kernels, t, 0, weights.matrix.columns, x);
    turned.set(kernels, t, 0, weights.matrix.columns, x);
  }

  std::string where() const { return std::string(kernels.name) + " " + weights.name; }
  int64_t num_blocks() const { return (weights.matrix.columns + block_columns - 1) / block_columns; }

  // Products of all weight rows, inputs `tile` at a time, columns `cut` blocks at a time (of a panel at most its own).
  gemcut::AlignedArray<float> multiply(int64_t tile, int64_t cut, bool screen = false) const {
    const Format format = screen ? Format::s8_screen : weights.matrix.format;
    gemcut::AlignedArray<float> out(rows * stride);
    for (int64_t i = 0; i < rows * stride; ++i) out.data()[i] = NAN;  // a kernel must not read what it has not written
    gemcut::MatmulArgs args;
    args.geometry = &weights.matrix.geometry;
    args.columns = weights.matrix.columns;
    const bool panels = kernels.panel_rows && tile >= kernels.panel_rows;
    if (panels) cut = std::min(cut, gemcut::panel_blocks);
    const gemcut::AlignedArray<gemcut::Panel> panel(1);
    args.panel = panel.data();
    args.inputs = (panels ? turned : inputs).view(format);
    args.out_stride = stride;
    for (int64_t group = 0; group < weights.matrix.num_groups(); ++group)
      for (int64_t first = 0; first < rows; first += tile) {
        args.group = weights.matrix.group(group);
        args.low = format == Format::s8 ? weights.matrix.low_group(group) : nullptr;
        args.next = tile > 2 ? weights.matrix.data : nullptr;  // only fetched ahead
        args.first_row = first;
        args.num_rows = std::min(tile, rows - first);
        args.out = out.data() + first * stride + group * group_rows;
        for (int64_t block = 0; block < num_blocks(); block += cut) {
          args.first_block = block;
          args.end_block = std::min(num_blocks(), block + cut);
          kernels.matmul[static_cast<int>(format)](args);
        }
      }
    return out;
  }

  // Column c of input t as the kernel sees it.
  double input(int64_t t, int64_t c) const {
    const Inputs& view = inputs.view(weights.matrix.format);
    const int64_t scale_columns = block_columns * (gemcut::wants_wide(weights.matrix.format) ? gemcut::super_blocks : 1);
    if (gemcut::is_quantised(weights.matrix.format))
      return static_cast<double>(view.scale[t * view.scales + c / scale_columns]) * view.q8[t * view.stride + c];
    if (weights.matrix.format != gemcut::Format::bf16) return view.f32[t * view.stride + c];
    const uint32_t bits = static_cast<uint32_t>(view.bf16[t * view.stride + c]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  // part_bound: the largest that a weight's scale * code and its minimum may be where they cancel; 0: unknown.
  void check(const float* out, double part_bound = 0) const {
    const int64_t columns = weights.matrix.columns;
    const bool quantised = gemcut::is_quantised(weights.matrix.format);
    // Every addition rounds once, and a quantised part's factor and minimum as well. The parts of a weight with a
    // minimum may be larger than the weight: up to 4 times its part's largest.
    const double roundings = quantised ? static_cast<double>(columns) / 8 + 8 : static_cast<double>(columns) + 2;
    for (int64_t t = 0; t < rows; ++t) {
      std::vector<double> x(static_cast<size_t>(columns));
      for (int64_t c = 0; c < columns; ++c) x[static_cast<size_t>(c)] = input(t, c);
      for (int64_t r = 0; r < weights.matrix.rows; ++r) {
        const float* w = weights.values.data() + r * columns;
        double sum = 0, bound = 0;
        for (int64_t begin = 0; begin < columns; begin += 16) {
          double largest = part_bound, total = 0;
          for (int64_t c = begin; c < std::min(columns, begin + 16); ++c) {
            sum += w[c] * x[static_cast<size_t>(c)];
            largest = std::max(largest, std::abs(static_cast<double>(w[c])));
            total += std::abs(x[static_cast<size_t>(c)]);
          }
          bound += (quantised ? 4 : 1) * largest * total;
        }
        check_close(where() + ", input " + std::to_string(t) + ", row " + std::to_string(r), out[t * stride + r], sum,
                    bound * roundings * 0x1p-24 + 1e-30);
      }
      for (int64_t r = weights.matrix.rows; r < stride; ++r) CHECK_EQUAL(out[t * stride + r], 0.0f);
    }
  }

  const Kernels& kernels;
  const MatrixCase& weights;
  const int64_t rows, stride;
  InputRows inputs, turned;  // the second as the passes of many rows want it
};

std::vector<int64_t> widths(TensorType type) {
  const int64_t unit = gemcut::type_traits(type).block_values;
  if (unit == 1) return {1, 5, 32, 33, 96, 2048};
  if (unit == 32) return {32, 96, 640, 2048};
  return {256, 768, 2304};
}

}  // namespace

TEST(kernels_matmul_equals_double_precision) {
  Random random(3);
  for (const StoredKind kind : gemcut::testing::stored_kinds())
    for (const int64_t columns : widths(kind.type)) {
      const MatrixCase one(kind, 24, columns, random);
      for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
        const Product product(*kernels, one, 9, random);
        product.check(product.multiply(9, product.num_blocks()).data());
      }
    }
}

TEST(kernels_matmul_is_the_same_to_the_bit_for_every_number_of_inputs_and_cut_of_the_columns) {
  Random random(4);
  for (const StoredKind kind : gemcut::testing::stored_kinds())
    for (const int64_t columns : {gemcut::type_traits(kind.type).block_values * 3, int64_t{2304}}) {
      const MatrixCase one(kind, 16, columns, random);
      for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
        const Product product(*kernels, one, 64, random);
        const auto whole = product.multiply(1, product.num_blocks());
        const int64_t count = product.rows * product.stride;
        for (const int64_t tile : {2, 3, 4, 5, 6, 7, 8, 9, 17, 64})
          check_same_bits(product.where() + ", " + std::to_string(tile) + " inputs",
                          product.multiply(tile, product.num_blocks()).data(), whole.data(), count);
        for (const int64_t tile : {int64_t{1}, int64_t{64}})
          check_same_bits(product.where() + " in parts", product.multiply(tile, 32).data(), whole.data(), count);
      }
    }
}

// Codes and inputs at their ends: what a 16-bit sum of two products would not hold.
TEST(kernels_matmul_of_largest_codes_and_inputs_does_not_overflow) {
  Random random(5);
  for (const StoredKind kind : gemcut::testing::stored_kinds()) {
    if (gemcut::type_traits(kind.type).block_values == 1) continue;
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      const MatrixCase one(kind, 16, 512, random, static_cast<uint8_t>(fill));
      for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
        Product product(*kernels, one, 4, random);
        for (int64_t t = 0; t < 4; ++t) {
          std::vector<float> ends(512);
          for (size_t c = 0; c < 512; ++c) ends[c] = t == 0 || (t == 2 && c % 2) || (t == 3 && c % 4 < 2) ? 1.0f : -1.0f;
          product.set(t, ends.data());
        }
        product.check(product.multiply(4, product.num_blocks()).data(), 4.0);
        product.check(product.multiply(64, product.num_blocks()).data(), 4.0);
      }
    }
  }
}

// Without the lower bits: as if all were 4, and no further from the whole product than their norm allows.
TEST(kernels_matmul_of_upper_bits_alone_is_within_the_norm_of_the_lower_ones) {
  Random random(8);
  const MatrixCase one({TensorType::q8_0, true}, 40, 640, random);
  MatrixCase upper({TensorType::q8_0, true}, 40, 640, random);
  upper.stored = one.stored;
  for (size_t i = 0; i < upper.stored.size(); ++i)
    if (i % 34 > 1) upper.stored[i] = (upper.stored[i] & std::byte{0xf8}) | std::byte{4};
  for (int64_t r = 0; r < 40; ++r)
    gemcut::dequantize_row(TensorType::q8_0, upper.stored.data() + r * upper.row_bytes(), 640, upper.values.data() + r * 640);
  for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
    Random same(9);
    const Product product(*kernels, one, 5, same);
    Product wanted(*kernels, upper, 5, same);
    wanted.inputs = InputRows(640, 5, {Format::s8});
    Random again(9);
    for (int64_t t = 0; t < 5; ++t) wanted.inputs.set(*kernels, t, 0, 640, again.floats(640, 1.5f).data());
    const auto screened = product.multiply(5, 20, true), whole = product.multiply(5, 20);
    wanted.check(screened.data());
    check_same_bits(product.where() + ", one by one", product.multiply(1, 20, true).data(), screened.data(), 5 * product.stride);
    for (int64_t t = 0; t < 5; ++t) {
      double squares = 0;
      for (int64_t c = 0; c < 640; ++c) squares += product.input(t, c) * product.input(t, c);
      for (int64_t r = 0; r < 40; ++r) {
        float norm;
        gemcut::dequantize_row(TensorType::f16, one.matrix.low_norms(r / 16) + r % 16 * 2, 1, &norm);
        const int64_t at = t * product.stride + r;
        check_close(product.where(), screened.data()[at], whole.data()[at], norm * std::sqrt(squares) * 1.001);
      }
    }
  }
}

TEST(kernels_matmul_of_no_inputs_writes_nothing) {
  Random random(6);
  const MatrixCase one({TensorType::q8_0}, 16, 64, random);
  for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
    gemcut::MatmulArgs args;
    args.group = one.matrix.group(0);
    args.geometry = &one.matrix.geometry;
    args.columns = 64;
    args.end_block = 2;
    alignas(64) float out[16] = {7};
    args.out = out;
    args.out_stride = 16;
    kernels->matmul[static_cast<int>(one.matrix.format)](args);
    CHECK_EQUAL(out[0], 7.0f);
  }
}

TEST(kernels_every_x86_table_is_tested_here) {
#if defined(__x86_64__)
  std::string missing;
  for (const std::string name : {"portable", "avx2", "avx_vnni", "avx512_vnni", "avx512_bf16"}) {
    bool runs = false;
    for (const Kernels* kernels : gemcut::testing::runnable_tables()) runs = runs || name == kernels->name;
    if (!runs) missing += " " + name;
  }
  if (!missing.empty()) gemcut::testing::skip("this processor does not run the table(s)" + missing + "; they are built but not tested here");
#else
  CHECK(!gemcut::testing::runnable_tables().empty());
#endif
}

TEST(kernels_int8_burst_counts_its_multiply_adds) {
  for (const Kernels* kernels : gemcut::testing::runnable_tables()) {
    const int64_t one = kernels->int8_burst(1);
    CHECK(one > 0 && one % 64 == 0);
    CHECK_EQUAL(kernels->int8_burst(10), 10 * one);
  }
}
