// Random matrices for the tests of kernels and engine.
#include "tests/kernel_cases.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "engine/packing.h"

namespace gemcut::testing {
namespace {

// Where a block's halves lie and how far its integers reach, log2: value = half * integers.
struct BlockScales {
  int scale_offset;
  int scale_bits;
  int minimum_offset;  // -1: none
  int minimum_bits;
};

BlockScales block_scales(TensorType type) {
  switch (type) {
    case TensorType::q4_0: return {0, 3, -1, 0};
    case TensorType::q4_1: return {0, 4, 2, 0};
    case TensorType::q5_0: return {0, 4, -1, 0};
    case TensorType::q5_1: return {0, 5, 2, 0};
    case TensorType::q8_0: case TensorType::iq4_nl: return {0, 7, -1, 0};
    case TensorType::q2_k: return {80, 6, 82, 4};
    case TensorType::q3_k: return {108, 7, -1, 0};
    case TensorType::q4_k: return {0, 10, 2, 6};
    case TensorType::q5_k: return {0, 11, 2, 6};
    case TensorType::q6_k: return {208, 12, -1, 0};
    case TensorType::iq4_xs: return {0, 12, -1, 0};
    default: return {-1, 0, -1, 0};
  }
}

// A half of either sign, 2^exponent to twice that; now and then a subnormal one or zero.
uint16_t random_half(int exponent, Random& random) {
  const uint64_t bits = random.bits();
  const int field = bits % 61 == 0 ? 0 : std::max(exponent, -14) + 15;
  const uint64_t fraction = bits % 183 == 0 ? 0 : bits >> 8 & 1023;
  return static_cast<uint16_t>((bits >> 32 & 1) << 15 | static_cast<uint64_t>(field) << 10 | fraction);
}

void fill_floats(TensorType type, std::vector<std::byte>& stored, int exponent, Random& random) {
  const size_t size = type == TensorType::f32 ? 4 : 2;
  for (size_t at = 0; at < stored.size(); at += size) {
    const float value = random.uniform(-1, 1) * std::ldexp(1.0f, exponent);
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint16_t half = type == TensorType::bf16 ? static_cast<uint16_t>(bits >> 16)
                                                   : random_half(exponent - 1 - static_cast<int>(random.below(4)), random);
    if (type == TensorType::f32) std::memcpy(stored.data() + at, &value, 4);
    else std::memcpy(stored.data() + at, &half, 2);
  }
}

std::string format_text(StoredKind kind, int64_t rows, int64_t columns) {
  return std::string(kind.split ? "split " : "") + type_traits(kind.type).name + " (" + std::to_string(rows) + ", " + std::to_string(columns) + ")";
}

}  // namespace

uint64_t Random::bits() {
  uint64_t mixed = state_ += 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
  return mixed ^ mixed >> 31;
}

float Random::uniform(float low, float high) {
  return low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24f;
}

std::vector<float> Random::floats(int64_t count, float largest) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(-largest, largest);
  return values;
}

std::vector<const Kernels*> runnable_tables() {
  const Kernels* tables[16];
  const int count = runnable_kernels(tables, 16);
  return {tables, tables + count};
}

const std::vector<StoredKind>& stored_kinds() {
  static const std::vector<StoredKind> kinds = {
      {TensorType::f32},  {TensorType::f16},  {TensorType::bf16}, {TensorType::q4_0},   {TensorType::q4_1},
      {TensorType::q5_0}, {TensorType::q5_1}, {TensorType::q8_0}, {TensorType::q2_k},   {TensorType::q3_k},
      {TensorType::q4_k}, {TensorType::q5_k}, {TensorType::q6_k}, {TensorType::iq4_nl}, {TensorType::iq4_xs},
      {TensorType::q8_0, true}};
  return kinds;
}

std::vector<std::byte> random_stored(TensorType type, int64_t rows, int64_t columns, int exponent, Random& random,
                                     std::optional<uint8_t> fill) {
  const TypeTraits& traits = type_traits(type);
  std::vector<std::byte> stored(static_cast<size_t>(rows * (columns / traits.block_values) * traits.block_bytes));
  const BlockScales scales = block_scales(type);
  if (scales.scale_offset < 0) {
    fill_floats(type, stored, exponent, random);
    return stored;
  }
  for (std::byte& byte : stored) byte = static_cast<std::byte>(fill.value_or(static_cast<uint8_t>(random.bits())));
  for (size_t block = 0; block < stored.size(); block += static_cast<size_t>(traits.block_bytes)) {
    const uint16_t scale = random_half(exponent - scales.scale_bits, random);
    std::memcpy(stored.data() + block + scales.scale_offset, &scale, 2);
    if (scales.minimum_offset < 0) continue;
    const uint16_t minimum = random_half(exponent - 1 - scales.minimum_bits, random);
    std::memcpy(stored.data() + block + scales.minimum_offset, &minimum, 2);
  }
  return stored;
}

MatrixCase::MatrixCase(StoredKind kind, int64_t rows, int64_t columns, Random& random, std::optional<uint8_t> fill)
    : name(format_text(kind, rows, columns)),
      stored(random_stored(kind.type, rows, columns, 0, random, fill)),
      values(static_cast<size_t>(rows * columns)) {
  matrix.format = kind.split ? Format::s8 : format_for(kind.type);
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.geometry = group_geometry(matrix.format, columns);
  memory_ = AlignedArray<std::byte>(matrix.num_bytes());
  matrix.data = memory_.data();
  pack(kind);
  for (int64_t row = 0; row < rows; ++row)
    dequantize_row(kind.type, stored.data() + row * row_bytes(), columns, values.data() + row * columns);
}

void MatrixCase::pack(StoredKind kind) {
  const auto writable = [&](const std::byte* part) { return memory_.data() + (part - matrix.data); };
  for (int64_t group = 0; group < matrix.num_groups(); ++group) {
    const std::byte* group_stored[group_rows] = {};
    for (int64_t r = 0; r < group_rows && group * group_rows + r < matrix.rows; ++r)
      group_stored[r] = stored.data() + (group * group_rows + r) * row_bytes();
    if (kind.split)
      pack_split_group(group_stored, matrix.columns, writable(matrix.group(group)), writable(matrix.low_group(group)),
                       writable(matrix.low_norms(group)));
    else
      pack_group(kind.type, group_stored, matrix.columns, writable(matrix.group(group)));
  }
}

void fail_at(const std::string& where, double found, double wanted) {
  std::ostringstream out;
  out.precision(9);
  out << where << " is " << found << ", expected " << wanted;
  throw std::runtime_error(out.str());
}

void check_close(const std::string& where, double found, double wanted, double tolerance) {
  if (!(std::abs(found - wanted) <= tolerance)) fail_at(where + " (tolerance " + std::to_string(tolerance) + ")", found, wanted);
}

void check_same_bits(const std::string& where, const float* found, const float* wanted, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (std::bit_cast<uint32_t>(found[i]) != std::bit_cast<uint32_t>(wanted[i]))
      fail_at(where + ", number " + std::to_string(i), found[i], wanted[i]);
}

}  // namespace gemcut::testing
