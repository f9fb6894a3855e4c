// Rows of every type against the gguf package's values, bit by bit (data/rows.bin).
#include <bit>
#include <cstring>
#include <set>

#include "formats/stored_tensor.h"
#include "tests/files.h"
#include "tests/testing.h"

using gemcut::dequantize_row;
using gemcut::TensorType;

TEST(dequantize_gives_the_reference_values_bit_by_bit) {
  const std::string golden = gemcut::testing::test_data("rows.bin");
  std::set<uint32_t> seen;
  for (size_t at = 0; at < golden.size();) {
    uint32_t head[3];  // type, bytes, values
    std::memcpy(head, golden.data() + at, sizeof head);
    std::vector<std::byte> stored(head[1]);
    std::memcpy(stored.data(), golden.data() + at + sizeof head, head[1]);
    std::vector<uint32_t> wanted(head[2]);
    std::memcpy(wanted.data(), golden.data() + at + sizeof head + head[1], head[2] * sizeof(float));
    at += sizeof head + head[1] + head[2] * sizeof(float);
    const auto type = static_cast<TensorType>(head[0]);
    std::vector<float> values(head[2]);
    dequantize_row(type, stored.data(), head[2], values.data());
    for (size_t i = 0; i < values.size(); ++i)
      if (std::bit_cast<uint32_t>(values[i]) != wanted[i])
        gemcut::testing::fail(__FILE__, __LINE__,
                              std::string(gemcut::type_traits(type).name) + "[" + std::to_string(i) + "] is " +
                              std::to_string(values[i]) + ", not " + std::to_string(std::bit_cast<float>(wanted[i])));
    seen.insert(head[0]);
  }
  CHECK_EQUAL(seen.size(), 15u);
}

TEST(dequantize_halves_of_every_kind) {
  const std::pair<uint16_t, uint32_t> halves[] = {{0x0000, 0x00000000}, {0x8000, 0x80000000}, {0x0001, 0x33800000},
                                                  {0x83FF, 0xB87FC000}, {0x0400, 0x38800000}, {0x3C00, 0x3F800000},
                                                  {0x7BFF, 0x477FE000}, {0x7C00, 0x7F800000}, {0xFC00, 0xFF800000}};
  for (const auto& [half, wanted] : halves) {
    float value = 0;
    dequantize_row(TensorType::f16, reinterpret_cast<const std::byte*>(&half), 1, &value);
    CHECK_EQUAL(std::bit_cast<uint32_t>(value), wanted);
  }
}

TEST(dequantize_refuses_parts_of_blocks_and_unknown_types) {
  float values[32];
  const std::byte block[34] = {};
  CHECK_THROWS(dequantize_row(TensorType::q8_0, block, 31, values),
               "[formats.dequantize] a row of 31 numbers, expected a multiple of 32 for Q8_0");
  CHECK_THROWS(gemcut::type_traits(static_cast<TensorType>(9)),
               "[formats.type_traits] type 9 is not computed with, expected one of BF16, ");
  CHECK_EQUAL(std::string(gemcut::type_traits(TensorType::q4_k).name), "Q4_K");
  CHECK_EQUAL(gemcut::type_traits(TensorType::q4_k).block_bytes, 144);
}
