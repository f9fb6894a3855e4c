// What the tests of kernels and engine share: seeded random numbers, random stored matrices, and the tables to test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/input_rows.h"
#include "formats/tensor.h"
#include "kernels/kernels.h"
#include "tests/testing.h"

namespace gemcut::testing {

// Numbers that look random and are the same in every run (SplitMix64, public domain, by Sebastiano Vigna).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  int64_t below(int64_t end) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(end)); }
  float uniform(float low, float high);  // low <= x < high
  std::vector<float> floats(int64_t count, float largest);  // in -largest..largest

 private:
  uint64_t state_;
};

// Every table that this processor runs.
std::vector<const Kernels*> runnable_tables();

// A stored type and, for Q8_0, which of its two packed formats: whole codes, or split ones for an output head.
struct StoredKind {
  TensorType type;
  bool split = false;
};
// The 15 stored types, Q8_0 in both formats.
const std::vector<StoredKind>& stored_kinds();

// Random bit patterns of `rows` rows as stored, with finite scales; values reach about 2^exponent. With `fill` every
// byte but the half scales is that one.
std::vector<std::byte> random_stored(TensorType type, int64_t rows, int64_t columns, int exponent, Random& random,
                                     std::optional<uint8_t> fill = std::nullopt);

// A random matrix: as stored, packed, and in float32.
struct MatrixCase {
  MatrixCase(StoredKind kind, int64_t rows, int64_t columns, Random& random,
             std::optional<uint8_t> fill = std::nullopt);

  int64_t row_bytes() const { return static_cast<int64_t>(stored.size()) / matrix.rows; }

  std::string name;             // such as "Q4_K (40, 256)"
  std::vector<std::byte> stored;
  PackedMatrix matrix;
  std::vector<float> values;    // (rows, columns), of dequantize_row

 private:
  void pack(StoredKind kind);

  AlignedArray<std::byte> memory_;
};

// Ends the running test: `what` of `where` is `found`, expected `wanted`.
[[noreturn]] void fail_at(const std::string& where, double found, double wanted);
// Fails unless |found - wanted| <= tolerance; a NaN fails too.
void check_close(const std::string& where, double found, double wanted, double tolerance);
// Fails unless the bits of two rows of floats are the same.
void check_same_bits(const std::string& where, const float* found, const float* wanted, int64_t count);

}  // namespace gemcut::testing
