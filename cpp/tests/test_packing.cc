// Packing against dequantize_row (gemcut.quantize.dequantize): no bit of a weight is lost.
#include "engine/packing.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "tests/kernel_cases.h"

using gemcut::dequantize_row;
using gemcut::Format;
using gemcut::TensorType;
using gemcut::testing::MatrixCase;
using gemcut::testing::Random;
using gemcut::testing::StoredKind;

TEST(packing_keeps_every_value_of_every_type) {
  Random random(1);
  for (const StoredKind kind : gemcut::testing::stored_kinds()) {
    const int64_t unit = gemcut::type_traits(kind.type).block_values;
    for (const int64_t columns : {unit, 3 * unit, 5 * unit, 8 * unit, 9 * unit}) {
      const MatrixCase one(kind, 37, columns, random);
      std::vector<float> row(static_cast<size_t>(columns));
      for (int64_t r = 0; r < 37; ++r) {
        gemcut::unpack_row(one.matrix, r, row.data());
        for (int64_t c = 0; c < columns; ++c) {
          const float found = row[static_cast<size_t>(c)], wanted = one.values[static_cast<size_t>(r * columns + c)];
          // A difference of equal numbers may be 0 or -0.
          if (std::bit_cast<uint32_t>(found) != std::bit_cast<uint32_t>(wanted) && !(found == 0.0f && wanted == 0.0f))
            gemcut::testing::fail_at(one.name + ", row " + std::to_string(r) + ", column " + std::to_string(c), found, wanted);
        }
      }
    }
  }
}

TEST(packing_of_missing_rows_is_zero) {
  Random random(2);
  for (const StoredKind kind : gemcut::testing::stored_kinds()) {
    const MatrixCase one(kind, 21, gemcut::type_traits(kind.type).block_values * 3, random);
    std::vector<float> row(static_cast<size_t>(one.matrix.columns));
    for (int64_t r = 21; r < 32; ++r) {
      gemcut::unpack_row(one.matrix, r, row.data());
      // With an offset, codes and scale of a missing row are zero: 0 * (0 - offset) is -0.
      for (const float value : row) CHECK_EQUAL(value, 0.0f);
    }
  }
}

// What the lower bits of a split row can add is bounded by the norm kept beside them.
TEST(packing_of_split_codes_keeps_the_norm_of_the_lower_bits) {
  Random random(7);
  const MatrixCase one({TensorType::q8_0, true}, 37, 160, random);
  for (int64_t r = 0; r < 37; ++r) {
    double squares = 0;
    for (int64_t c = 0; c < 160; ++c) {
      const std::byte* block = one.stored.data() + r * one.row_bytes() + c / 32 * 34;
      float scale;
      gemcut::dequantize_row(TensorType::f16, block, 1, &scale);
      const int lower = (static_cast<int>(block[2 + c % 32]) & 7) - 4;
      squares += static_cast<double>(scale) * scale * lower * lower;
    }
    float norm;
    gemcut::dequantize_row(TensorType::f16, one.matrix.low_norms(r / 16) + r % 16 * 2, 1, &norm);
    CHECK(norm >= std::sqrt(squares));
    CHECK(norm <= std::sqrt(squares) * 1.001 + 1e-7);
  }
  for (int64_t r = 37; r < 48; ++r) {
    float norm;
    gemcut::dequantize_row(TensorType::f16, one.matrix.low_norms(r / 16) + r % 16 * 2, 1, &norm);
    CHECK_EQUAL(norm, 0.0f);
  }
}

TEST(packing_geometry_is_whole_cache_lines_and_never_overlaps) {
  for (int index = 0; index < gemcut::num_formats; ++index) {
    const auto format = static_cast<Format>(index);
    const gemcut::FormatTraits& traits = gemcut::traits_of(format);
    for (int64_t blocks = 1; blocks <= 40; ++blocks) {
      const gemcut::GroupGeometry geometry = gemcut::group_geometry(format, blocks * gemcut::block_columns);
      CHECK_EQUAL(geometry.bytes % 64, 0);
      if (!gemcut::is_quantised(format)) continue;
      CHECK_EQUAL(geometry.low_bytes, format == Format::s8 ? blocks * 192 : 0);
      CHECK_EQUAL(geometry.num_blocks, blocks);
      CHECK_EQUAL(geometry.codes % 64, 0);
      CHECK_EQUAL(geometry.block_bytes, traits.bits * 64);
      const int64_t last = blocks - 1;
      const int64_t end = geometry.chunk_of(last) + geometry.codes + (last % geometry.chunk_blocks + 1) * geometry.block_bytes;
      CHECK_EQUAL(end, geometry.bytes);
      int64_t after_scales = geometry.chunk_blocks * gemcut::group_rows * (traits.two_level ? 32 / traits.scale_columns : 2);
      for (const int64_t part : {geometry.supers, geometry.minima, geometry.super_minima}) {
        if (part == 0) continue;
        CHECK(part >= after_scales);
        after_scales = part + 32;
      }
      CHECK(geometry.codes >= after_scales);
    }
  }
}

TEST(packing_has_a_format_for_every_type) {
  const std::pair<TensorType, Format> pairs[] = {
      {TensorType::f32, Format::f32},   {TensorType::f16, Format::f16},   {TensorType::bf16, Format::bf16},
      {TensorType::q8_0, Format::q8},   {TensorType::iq4_nl, Format::q8}, {TensorType::q5_0, Format::q5},
      {TensorType::q4_0, Format::q4},   {TensorType::q5_1, Format::q5m},  {TensorType::q4_1, Format::q4m},
      {TensorType::q6_k, Format::k6},   {TensorType::q5_k, Format::k5},   {TensorType::q4_k, Format::k4},
      {TensorType::q3_k, Format::k3},   {TensorType::q2_k, Format::k2},   {TensorType::iq4_xs, Format::x8}};
  for (const auto& [type, format] : pairs) CHECK_EQUAL(static_cast<int>(gemcut::format_for(type)), static_cast<int>(format));
  CHECK_EQUAL(std::size(pairs), gemcut::testing::stored_kinds().size() - 1);
}
