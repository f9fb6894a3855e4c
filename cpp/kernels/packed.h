// How weight matrices lie in memory for the kernels: 16 rows interleaved, so that one vector lane is one row.
//
// A matrix (rows, columns) is cut into groups of 16 rows; missing rows of the last group are zero. Quantised formats
// cut a group's columns into blocks of 32. A block's codes are 8 vectors of 64 bytes: byte 4 r + i of vector j is the
// code of row r at column 4 j + i, what one 4-way dot product instruction eats. Fewer than 8 bits are stored as
//   low nibbles   4 x 64 bytes: vector j in the low nibbles, vector j + 4 in the high ones
//   bit 4         64 bytes: bit j of a byte belongs to vector j (5-bit codes)
//   bits 4 and 5  2 x 64 bytes: bits 2 j and 2 j + 1 of the first belong to vector j, of the second to j + 4
// A group is a row of chunks of 4 blocks (two-level formats 8), so that memory is read strictly forwards: a chunk's
// scales, super-scales, minima and super-minima, then the codes of its blocks; the last chunk may have fewer blocks.
// The 8-bit minima of two-level formats lie in pairs [16][2], as a 2-way dot product eats them.
// A weight is scale * (code - offset) or scale * code - minimum.
//
// Format s8 keeps apart what decides most: a group's 5 upper bits lie as a 5-bit format's, all groups together; behind
// the last one the lower 3 bits of each group, a block's as
//   bits 1 and 2  2 x 64 bytes, as above for 4 and 5;   bit 0   64 bytes, as above for 4
// and behind those for each row a half: the Euclidean norm of scale * (lower bits - 4), rounded up.
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
  s8,    // Q8_0 of an output head: the upper 5 bits of all groups, then the lower 3, then how much those can matter
  s8_screen,  // not a format of its own: an s8 matrix whose lower bits are not read, but taken as 4
};
inline constexpr int num_formats = 16;
inline constexpr int64_t group_rows = 16;
inline constexpr int64_t block_columns = 32;
inline constexpr int64_t super_blocks = 8;  // blocks under one super-scale
inline constexpr int64_t low_block_bytes = 192;

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
    {4, -1, 16, true, true},   {8, 7, 32, true, false},   {5, 7, 32, false, false},  {5, 7, 32, false, false},
};
constexpr const FormatTraits& traits_of(Format format) { return format_traits[static_cast<int>(format)]; }
constexpr bool is_quantised(Format format) { return traits_of(format).bits != 0; }
// Of the inputs: one scale for 256 columns, so that a super-block's sums share it.
constexpr bool wants_wide(Format format) { return traits_of(format).two_level; }

// Where things lie in one group of a matrix with `columns` columns; bytes, all multiples of 64.
struct GroupGeometry {
  int64_t num_blocks;     // of 32 columns
  int64_t block_bytes;    // codes of one block
  int64_t chunk_blocks;
  int64_t chunk_bytes;    // of a full chunk
  // In a chunk; scales lie at its beginning.
  int64_t supers;         // half [16]; 0 without
  int64_t minima;         // like the scales; 0 without
  int64_t super_minima;   // like the super-scales
  int64_t codes;
  int64_t bytes;          // of the whole group
  int64_t low_bytes;      // of a group's lower bits; 0 but for s8

  constexpr int64_t chunk_of(int64_t block) const { return block / chunk_blocks * chunk_bytes; }
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
  geometry.chunk_blocks = traits.two_level ? super_blocks : 4;
  const int64_t per_block = traits.two_level ? group_rows * (block_columns / traits.scale_columns) : group_rows * 2;
  int64_t end = geometry.chunk_blocks * per_block;
  auto take = [&end](int64_t bytes) {
    const int64_t begin = end;
    end += bytes;
    return begin;
  };
  if (traits.two_level) geometry.supers = take(group_rows * 2);
  if (traits.has_minimum) geometry.minima = take(geometry.chunk_blocks * per_block);
  if (traits.two_level && traits.has_minimum) geometry.super_minima = take(group_rows * 2);
  geometry.codes = align64(end);
  geometry.chunk_bytes = geometry.codes + geometry.chunk_blocks * geometry.block_bytes;
  const int64_t rest = geometry.num_blocks % geometry.chunk_blocks;
  geometry.bytes = geometry.num_blocks / geometry.chunk_blocks * geometry.chunk_bytes;
  if (rest) geometry.bytes += geometry.codes + rest * geometry.block_bytes;
  if (format == Format::s8) geometry.low_bytes = geometry.num_blocks * low_block_bytes;
  return geometry;
}

// A matrix ready for the kernels.
struct PackedMatrix {
  Format format = Format::f32;
  int64_t rows = 0, columns = 0;
  const std::byte* data = nullptr;  // 64-byte aligned
  GroupGeometry geometry{};

  int64_t num_groups() const { return (rows + group_rows - 1) / group_rows; }
  int64_t num_bytes() const {
    const int64_t low = geometry.low_bytes ? geometry.low_bytes + group_rows * 2 : 0;
    return align64(num_groups() * (geometry.bytes + low));
  }
  const std::byte* group(int64_t index) const { return data + index * geometry.bytes; }
  // Format s8.
  const std::byte* low_group(int64_t index) const { return group(num_groups()) + index * geometry.low_bytes; }
  const std::byte* low_norms(int64_t index) const { return low_group(num_groups()) + index * group_rows * 2; }  // half [16]
};

}  // namespace gemcut
