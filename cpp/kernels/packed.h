// How weight matrices lie in memory for the kernels: 16 rows interleaved, so that one vector lane is one row.
//
// A matrix (rows, columns) is cut into groups of 16 rows; missing rows of the last group are zero. Quantised formats
// cut a group's columns into blocks of 32. A block's codes are 8 vectors of 64 bytes: byte 4 r + i of vector j is the
// code of row r at column 4 j + i, what one 4-way dot product instruction eats. Fewer than 8 bits are stored as
//   low nibbles   4 x 64 bytes: vector j in the low nibbles, vector j + 4 in the high ones
//   bit 4         64 bytes: bit j of a byte belongs to vector j (5-bit codes)
//   bits 4 and 5  2 x 64 bytes: bits 2 j and 2 j + 1 of the first belong to vector j, of the second to j + 4
// A group holds first the codes of all its blocks, then scales: half or super, then (with minimum) the same of the
// minima. A weight is scale * (code - offset) or scale * code - minimum.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gemcut {

enum class Format : uint8_t {
  f32,   // [column][16] float
  f16,   // [column][16] half
  bf16,  // [column pair][16][2]
  q8,    // Q8_0, IQ4_NL: 8 bits, half scale per 32, offset 128
  q5,    // Q5_0: 5 bits, offset 16
  q4,    // Q4_0: 4 bits, offset 8
  q5m,   // Q5_1: 5 bits, half scale and minimum
  q4m,   // Q4_1
  k6,    // Q6_K: 6 bits, int8 scale per 16, half super-scale per 256, offset 32
  k5,    // Q5_K: 5 bits, uint8 scale and minimum per 32, half super-scales per 256
  k4,    // Q4_K
  k3,    // Q3_K: 4-bit codes below 8, int8 scale per 16, offset 4
  k2,    // Q2_K: 4-bit codes below 4, uint8 scale and minimum per 16
  x8,    // IQ4_XS: 8 bits, int8 scale per 32, half super-scale per 256, offset 128
};
inline constexpr int num_formats = 14;
inline constexpr int64_t group_rows = 16;
inline constexpr int64_t block_columns = 32;
inline constexpr int64_t super_blocks = 8;  // blocks under one super-scale

struct FormatTraits {
  int bits;             // stored bits of a code; 0 for floats
  int offset_shift;     // log2 of the offset; -1: none
  int scale_columns;    // columns under one scale: 32 or 16
  bool two_level;       // 8-bit scales under half super-scales
  bool has_minimum;
};
inline constexpr FormatTraits format_traits[num_formats] = {
    {0, -1, 0, false, false},  {0, -1, 0, false, false},  {0, -1, 0, false, false},  {8, 7, 32, false, false},
    {5, 4, 32, false, false},  {4, 3, 32, false, false},  {5, -1, 32, false, true},  {4, -1, 32, false, true},
    {6, 5, 16, true, false},   {5, -1, 32, true, true},   {4, -1, 32, true, true},   {4, 2, 16, true, false},
    {4, -1, 16, true, true},   {8, 7, 32, true, false},
};
constexpr const FormatTraits& traits_of(Format format) { return format_traits[static_cast<int>(format)]; }
constexpr bool is_quantised(Format format) { return traits_of(format).bits != 0; }

// Where things lie in one group of a matrix with `columns` columns; bytes, all multiples of 64.
struct GroupGeometry {
  int64_t num_blocks;     // of 32 columns
  int64_t block_bytes;    // codes of one block
  int64_t scales;         // offset of the first scale: half [block][16], or 8-bit [block][per block][16]
  int64_t supers;         // offset of the super-scales, half [super][16]; 0 without
  int64_t minima;         // like scales; 0 without
  int64_t super_minima;   // like supers
  int64_t bytes;          // of the whole group
};

constexpr int64_t align64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

constexpr GroupGeometry group_geometry(Format format, int64_t columns) {
  const FormatTraits& traits = traits_of(format);
  GroupGeometry geometry{};
  if (traits.bits == 0) {
    const int64_t pairs = (columns + 1) / 2;
    geometry.bytes = format == Format::f32 ? columns * 64 : format == Format::f16 ? align64(columns * 32) : pairs * 64;
    return geometry;
  }
  geometry.num_blocks = columns / block_columns;
  geometry.block_bytes = traits.bits * 64;
  const int64_t supers = (geometry.num_blocks + super_blocks - 1) / super_blocks;
  const int64_t per_block = traits.two_level ? group_rows * (block_columns / traits.scale_columns) : group_rows * 2;
  int64_t end = geometry.num_blocks * geometry.block_bytes;
  auto take = [&end](int64_t bytes) {
    const int64_t begin = end;
    end = align64(end + bytes);
    return begin;
  };
  geometry.scales = take(geometry.num_blocks * per_block);
  if (traits.two_level) geometry.supers = take(supers * group_rows * 2);
  if (traits.has_minimum) {
    geometry.minima = take(geometry.num_blocks * per_block);
    if (traits.two_level) geometry.super_minima = take(supers * group_rows * 2);
  }
  geometry.bytes = end;
  return geometry;
}

// A matrix ready for the kernels.
struct PackedMatrix {
  Format format = Format::f32;
  int64_t rows = 0, columns = 0;
  const std::byte* data = nullptr;  // 64-byte aligned
  GroupGeometry geometry{};

  int64_t num_groups() const { return (rows + group_rows - 1) / group_rows; }
  int64_t num_bytes() const { return num_groups() * geometry.bytes; }
  const std::byte* group(int64_t index) const { return data + index * geometry.bytes; }
};

}  // namespace gemcut
