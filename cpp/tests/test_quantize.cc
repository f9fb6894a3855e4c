// Encoders: every instruction set and any number of threads choose the same bytes, and readers get near values back.
#include <cmath>
#include <random>
#include <vector>

#include "formats/tensor.h"
#include "quantize/encoder.h"
#include "tests/testing.h"

using gemcut::block_size;
using gemcut::BlockType;
using gemcut::TensorType;

namespace {

constexpr BlockType all_types[] = {BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1, BlockType::q8_0,
                                   BlockType::q2_k, BlockType::q3_k, BlockType::q4_k, BlockType::q5_k, BlockType::q6_k};
constexpr int64_t rows = 37, columns = 512;

struct Case {
  std::vector<float> values, weights;
  Case() : values(rows * columns), weights(columns) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.03f);
    for (float& value : values) value = normal(random);
    for (float& weight : weights) weight = std::exp(40 * normal(random));
    for (int64_t i = 0; i < columns; ++i) values[i] = i == 3 ? 1e-7f : 0.0f;  // a row of almost nothing
  }
};

int64_t row_bytes(BlockType type) { return columns / block_size(type).values * block_size(type).bytes; }

}  // namespace

TEST(quantize_block_sizes_are_the_readers) {
  for (const BlockType type : all_types) {
    const gemcut::TypeTraits& traits = gemcut::type_traits(static_cast<TensorType>(type));
    CHECK_EQUAL(traits.block_values, static_cast<int64_t>(block_size(type).values));
    CHECK_EQUAL(traits.block_bytes, static_cast<int64_t>(block_size(type).bytes));
  }
}

TEST(quantize_every_instruction_set_and_any_threads_give_the_same_bytes) {
  const Case one;
  const gemcut::Encoder* encoders[8];
  const int count = gemcut::runnable_encoders(encoders, 8);
  CHECK(count >= 1);
  for (const BlockType type : all_types) {
    std::vector<uint8_t> expected(rows * row_bytes(type)), found(expected.size());
    encoders[0]->encode(type, one.values.data(), rows, columns, one.weights.data(), expected.data());
    for (int i = 1; i < count; ++i) {
      encoders[i]->encode(type, one.values.data(), rows, columns, one.weights.data(), found.data());
      if (found != expected)
        gemcut::testing::fail(__FILE__, __LINE__, std::string(encoders[i]->name) + " differs in type " +
                                                      std::to_string(static_cast<int>(type)));
    }
    for (const int threads : {1, 3, 64}) {
      std::fill(found.begin(), found.end(), uint8_t{0});
      gemcut::quantise_rows(type, one.values.data(), rows, columns, one.weights.data(), found.data(), threads);
      CHECK(found == expected);
    }
  }
}

TEST(quantize_values_come_back_near) {
  const Case one;
  for (const BlockType type : all_types) {
    std::vector<uint8_t> bytes(rows * row_bytes(type));
    gemcut::quantise_rows(type, one.values.data(), rows, columns, one.weights.data(), bytes.data(), 1);
    double error = 0, size = 0;
    std::vector<float> back(columns);
    for (int64_t row = 0; row < rows; ++row) {
      gemcut::dequantize_row(static_cast<TensorType>(type),
                             reinterpret_cast<const std::byte*>(bytes.data()) + row * row_bytes(type), columns, back.data());
      for (int64_t i = 0; i < columns; ++i) {
        const double value = one.values[row * columns + i], rest = value - back[i];
        error += one.weights[i] * rest * rest;
        size += one.weights[i] * value * value;
      }
    }
    const double bits = 8.0 * block_size(type).bytes / block_size(type).values;
    // Each bit halves the step; 2.6 bits leave 10 %, and 0.1 % is well above what 8.5 leave.
    CHECK(error < size * 0.1 * std::pow(0.25, bits - 2.625) + 1e-4 * size);
  }
}

TEST(quantize_finds_the_first_value_out_of_range) {
  std::vector<float> values(10000, 1.0f);
  CHECK_EQUAL(gemcut::first_beyond(values.data(), 10000, 1.0f), int64_t{-1});
  values[9999] = std::nanf("");
  CHECK_EQUAL(gemcut::first_beyond(values.data(), 10000, 1.0f), int64_t{9999});
  values[5000] = -1.5f;
  CHECK_EQUAL(gemcut::first_beyond(values.data(), 10000, 1.0f), int64_t{5000});
  CHECK_EQUAL(gemcut::first_beyond(values.data(), 0, 1.0f), int64_t{-1});
}
