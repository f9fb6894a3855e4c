#include "engine/packing.h"

#include <cmath>
#include <cstring>

namespace gemcut {
namespace {

// One stored block's contents: codes, and scales for each part, in the words of packed.h.
struct Block {
  int64_t columns;          // 32 or 256
  uint8_t codes[256];
  uint16_t scale, minimum;  // half: of the block, or super-scales
  int8_t scales[16];        // two-level formats
  uint8_t minima[16];
};

uint16_t half_at(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return half;
}

// IQ4's 16 values. Source: ggml's public table kvalues_iq4nl.
constexpr int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void nibbles(const uint8_t* packed, uint8_t* codes) {  // 16 bytes: low nibbles first, then high ones
  for (int i = 0; i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[i + 16] = packed[i] >> 4;
  }
}

void fifth_bits(const uint8_t* bits, uint8_t* codes) {  // 32 bits, little-endian
  uint32_t word;
  std::memcpy(&word, bits, 4);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] | (word >> i & 1) << 4);
}

// 6-bit scales and minima of Q4_K and Q5_K: 8 of each in 12 bytes.
void six_bit_scales(const uint8_t* packed, Block& block) {
  for (int j = 0; j < 4; ++j) {
    block.scales[j] = static_cast<int8_t>(packed[j] & 63);
    block.minima[j] = packed[j + 4] & 63;
    block.scales[j + 4] = static_cast<int8_t>((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
    block.minima[j + 4] = static_cast<uint8_t>((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
  }
}

void read_q4_k(const uint8_t* p, Block& block, const uint8_t* high) {
  block.scale = half_at(p);
  block.minimum = half_at(p + 2);
  six_bit_scales(p + 4, block);
  const uint8_t* low = high ? p + 48 : p + 16;
  for (int chunk = 0; chunk < 4; ++chunk)
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = low[chunk * 32 + i];
      const int bit = high ? high[i] >> (2 * chunk) : 0;
      block.codes[chunk * 64 + i] = static_cast<uint8_t>((byte & 15) | (bit & 1) << 4);
      block.codes[chunk * 64 + 32 + i] = static_cast<uint8_t>((byte >> 4) | (bit >> 1 & 1) << 4);
    }
}

void read_q6_k(const uint8_t* p, Block& block) {
  const uint8_t *low = p, *high = p + 128;
  std::memcpy(block.scales, p + 192, 16);
  block.scale = half_at(p + 208);
  for (int half = 0; half < 2; ++half, low += 64, high += 32)
    for (int i = 0; i < 32; ++i) {
      uint8_t* codes = block.codes + half * 128 + i;
      codes[0] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
      codes[32] = static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      codes[64] = static_cast<uint8_t>((low[i] >> 4) | (high[i] >> 4 & 3) << 4);
      codes[96] = static_cast<uint8_t>((low[i + 32] >> 4) | (high[i] >> 6 & 3) << 4);
    }
}

void read_q3_k(const uint8_t* p, Block& block) {
  const uint8_t *high = p, *low = p + 32, *packed = p + 96;
  block.scale = half_at(p + 108);
  for (int i = 0; i < 16; ++i) {
    const int four = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int two = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
    block.scales[i] = static_cast<int8_t>((four | two << 4) - 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int group = i / 32, byte = i % 32;
    const int two = low[i / 128 * 32 + byte] >> (2 * (group % 4)) & 3;
    block.codes[i] = static_cast<uint8_t>(two | (high[byte] >> group & 1) << 2);
  }
}

void read_q2_k(const uint8_t* p, Block& block) {
  for (int i = 0; i < 16; ++i) {
    block.scales[i] = static_cast<int8_t>(p[i] & 15);
    block.minima[i] = p[i] >> 4;
  }
  for (int i = 0; i < 256; ++i) block.codes[i] = p[16 + i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
  block.scale = half_at(p + 80);
  block.minimum = half_at(p + 82);
}

void read_iq4_xs(const uint8_t* p, Block& block) {
  block.scale = half_at(p);
  const uint16_t high = half_at(p + 2);
  for (int part = 0; part < 8; ++part) {
    const int four = p[4 + part / 2] >> (4 * (part % 2)) & 15;
    block.scales[part] = static_cast<int8_t>((four | (high >> (2 * part) & 3) << 4) - 32);
    uint8_t* codes = block.codes + 32 * part;
    nibbles(p + 8 + 16 * part, codes);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(iq4_values[codes[i]] + 128);
  }
}

void read_block(TensorType type, const uint8_t* p, Block& block) {
  block.columns = type_traits(type).block_values;
  block.minimum = 0;
  switch (type) {
    case TensorType::q4_0: block.scale = half_at(p); nibbles(p + 2, block.codes); break;
    case TensorType::q4_1: block.scale = half_at(p); block.minimum = half_at(p + 2); nibbles(p + 4, block.codes); break;
    case TensorType::q5_0: block.scale = half_at(p); nibbles(p + 6, block.codes); fifth_bits(p + 2, block.codes); break;
    case TensorType::q5_1:
      block.scale = half_at(p);
      block.minimum = half_at(p + 2);
      nibbles(p + 8, block.codes);
      fifth_bits(p + 4, block.codes);
      break;
    case TensorType::q8_0:
      block.scale = half_at(p);
      for (int i = 0; i < 32; ++i) block.codes[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80);
      break;
    case TensorType::iq4_nl:
      block.scale = half_at(p);
      nibbles(p + 2, block.codes);
      for (int i = 0; i < 32; ++i) block.codes[i] = static_cast<uint8_t>(iq4_values[block.codes[i]] + 128);
      break;
    case TensorType::q2_k: read_q2_k(p, block); break;
    case TensorType::q3_k: read_q3_k(p, block); break;
    case TensorType::q4_k: read_q4_k(p, block, nullptr); break;
    case TensorType::q5_k: read_q4_k(p, block, p + 16); break;
    case TensorType::q6_k: read_q6_k(p, block); break;
    case TensorType::iq4_xs: read_iq4_xs(p, block); break;
    default: break;  // floats are laid out without codes
  }
}

// The codes of 32 columns of row `row` into a block of `bits` bits that is zero so far in that row.
void lay_codes(const uint8_t* codes, int bits, int64_t row, uint8_t* block) {
  if (bits == 8) {
    for (int j = 0; j < 8; ++j) std::memcpy(block + 64 * j + 4 * row, codes + 4 * j, 4);
    return;
  }
  for (int j = 0; j < 4; ++j)
    for (int i = 0; i < 4; ++i) {
      const uint8_t low = codes[4 * j + i], high = codes[16 + 4 * j + i];
      const int64_t byte = 4 * row + i;
      block[64 * j + byte] = static_cast<uint8_t>((low & 15) | high << 4);
      if (bits == 5) block[256 + byte] = static_cast<uint8_t>(block[256 + byte] | (low >> 4) << j | (high >> 4) << (j + 4));
      if (bits == 6) {
        block[256 + byte] = static_cast<uint8_t>(block[256 + byte] | (low >> 4) << 2 * j);
        block[320 + byte] = static_cast<uint8_t>(block[320 + byte] | (high >> 4) << 2 * j);
      }
    }
}

// The 3 lower bits of 32 columns of row `row`, where they are zero so far.
void lay_lower_bits(const uint8_t* lower, int64_t row, uint8_t* low) {
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 4; ++i) {
      const int64_t byte = 4 * row + i;
      const uint8_t bits = lower[4 * j + i];
      low[64 * (j / 4) + byte] = static_cast<uint8_t>(low[64 * (j / 4) + byte] | (bits >> 1) << 2 * (j % 4));
      low[128 + byte] = static_cast<uint8_t>(low[128 + byte] | (bits & 1) << j);
    }
}

int lower_bits_at(const uint8_t* low, int64_t row, int column) {
  const int j = column / 4;
  const int64_t byte = 4 * row + column % 4;
  return (low[64 * (j / 4) + byte] >> 2 * (j % 4) & 3) << 1 | (low[128 + byte] >> j & 1);
}

uint8_t code_at(const uint8_t* block, int bits, int64_t row, int column) {
  const int j = column / 4, i = column % 4;
  const int64_t byte = 4 * row + i;
  if (bits == 8) return block[64 * j + byte];
  const uint8_t both = block[64 * (j % 4) + byte];
  int code = j < 4 ? both & 15 : both >> 4;
  if (bits == 5) code |= (block[256 + byte] >> j & 1) << 4;
  if (bits == 6) code |= (block[256 + 64 * (j / 4) + byte] >> 2 * (j % 4) & 3) << 4;
  return static_cast<uint8_t>(code);
}

void lay_half(std::byte* at, int64_t index, int64_t row, uint16_t half) {
  std::memcpy(at + (index * group_rows + row) * 2, &half, 2);
}

// Of a two-level format's minimum of part `part` of a chunk.
int64_t pair_at(int64_t part, int64_t row) { return part / 2 * 2 * group_rows + 2 * row + part % 2; }

void lay_block(const Block& block, Format format, const GroupGeometry& geometry, int64_t first, int64_t row,
               std::byte* group) {
  const FormatTraits& traits = traits_of(format);
  const int64_t parts = block_columns / traits.scale_columns;
  const int64_t blocks = block.columns / block_columns, in_chunk = first % geometry.chunk_blocks;
  std::byte* const chunk = group + geometry.chunk_of(first);
  for (int64_t b = 0; b < blocks; ++b)
    lay_codes(block.codes + b * block_columns, traits.bits, row,
              reinterpret_cast<uint8_t*>(chunk) + geometry.codes + (in_chunk + b) * geometry.block_bytes);
  if (!traits.two_level) {
    lay_half(chunk, in_chunk, row, block.scale);
    if (traits.has_minimum) lay_half(chunk + geometry.minima, in_chunk, row, block.minimum);
    return;
  }
  for (int64_t part = 0; part < blocks * parts; ++part) {
    chunk[part * group_rows + row] = static_cast<std::byte>(block.scales[part]);
    if (traits.has_minimum) chunk[geometry.minima + pair_at(part, row)] = static_cast<std::byte>(block.minima[part]);
  }
  lay_half(chunk + geometry.supers, 0, row, block.scale);
  if (traits.has_minimum) lay_half(chunk + geometry.super_minima, 0, row, block.minimum);
}

// Q4_1 and Q5_1 add their minimum, the kernels subtract one.
bool adds_minimum(TensorType type) { return type == TensorType::q4_1 || type == TensorType::q5_1; }

void pack_floats(Format format, const std::byte* const rows[group_rows], int64_t columns, std::byte* group) {
  const int64_t size = format == Format::f32 ? 4 : 2;
  for (int64_t r = 0; r < group_rows; ++r) {
    if (!rows[r]) continue;
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t at = format == Format::bf16 ? (c / 2 * group_rows + r) * 2 + c % 2 : c * group_rows + r;
      std::memcpy(group + at * size, rows[r] + c * size, static_cast<size_t>(size));
    }
  }
}

float half_to_float(const std::byte* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  float value;
  if (exponent == 0) value = std::ldexp(static_cast<float>(fraction), -24);
  else if (exponent == 31) value = fraction ? NAN : INFINITY;
  else value = std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half & 0x8000 ? -value : value;
}

// The least half that is not below a value of at least 0; infinity beyond the largest.
uint16_t half_above(double value) {
  uint16_t half = 0;
  for (int bit = 14; bit >= 0; --bit) {
    const auto tried = static_cast<uint16_t>(half | 1 << bit);
    std::byte bytes[2];
    std::memcpy(bytes, &tried, 2);
    if (tried <= 0x7c00 && static_cast<double>(half_to_float(bytes)) <= value) half = tried;
  }
  std::byte bytes[2];
  std::memcpy(bytes, &half, 2);
  return static_cast<double>(half_to_float(bytes)) < value ? static_cast<uint16_t>(half + 1) : half;
}

void unpack_float_row(const PackedMatrix& matrix, int64_t lane, const std::byte* group, float* out) {
  for (int64_t c = 0; c < matrix.columns; ++c) {
    if (matrix.format == Format::f32) {
      std::memcpy(out + c, group + (c * group_rows + lane) * 4, 4);
    } else if (matrix.format == Format::f16) {
      out[c] = half_to_float(group + (c * group_rows + lane) * 2);
    } else {
      uint16_t high;
      std::memcpy(&high, group + ((c / 2 * group_rows + lane) * 2 + c % 2) * 2, 2);
      const uint32_t bits = static_cast<uint32_t>(high) << 16;
      std::memcpy(out + c, &bits, 4);
    }
  }
}

// Scale of one part of a chunk.
float scale_at(const FormatTraits& traits, const GroupGeometry& geometry, const std::byte* chunk, int64_t part, int64_t lane) {
  if (!traits.two_level) return half_to_float(chunk + (part * group_rows + lane) * 2);
  const std::byte small = chunk[part * group_rows + lane];
  const float whole = traits.has_minimum ? static_cast<float>(static_cast<uint8_t>(small))
                                         : static_cast<float>(static_cast<int8_t>(small));
  return half_to_float(chunk + geometry.supers + lane * 2) * whole;
}

float minimum_at(const FormatTraits& traits, const GroupGeometry& geometry, const std::byte* chunk, int64_t part, int64_t lane) {
  const std::byte* minima = chunk + geometry.minima;
  if (!traits.has_minimum) return 0;
  if (!traits.two_level) return half_to_float(minima + (part * group_rows + lane) * 2);
  return half_to_float(chunk + geometry.super_minima + lane * 2) * static_cast<float>(static_cast<uint8_t>(minima[pair_at(part, lane)]));
}

}  // namespace

Format format_for(TensorType type) {
  switch (type) {
    case TensorType::f32: return Format::f32;
    case TensorType::f16: return Format::f16;
    case TensorType::bf16: return Format::bf16;
    case TensorType::q4_0: return Format::q4;
    case TensorType::q4_1: return Format::q4m;
    case TensorType::q5_0: return Format::q5;
    case TensorType::q5_1: return Format::q5m;
    case TensorType::q8_0: case TensorType::iq4_nl: return Format::q8;
    case TensorType::q2_k: return Format::k2;
    case TensorType::q3_k: return Format::k3;
    case TensorType::q4_k: return Format::k4;
    case TensorType::q5_k: return Format::k5;
    case TensorType::q6_k: return Format::k6;
    case TensorType::iq4_xs: return Format::x8;
  }
  return Format::f32;
}

void pack_group(TensorType type, const std::byte* const rows[group_rows], int64_t columns, std::byte* group) {
  const Format format = format_for(type);
  const GroupGeometry geometry = group_geometry(format, columns);
  std::memset(group, 0, static_cast<size_t>(geometry.bytes));
  if (!is_quantised(format)) return pack_floats(format, rows, columns, group);
  const TypeTraits& traits = type_traits(type);
  Block block;
  for (int64_t r = 0; r < group_rows; ++r) {
    if (!rows[r]) continue;
    const uint8_t* stored = reinterpret_cast<const uint8_t*>(rows[r]);
    for (int64_t column = 0; column < columns; column += traits.block_values, stored += traits.block_bytes) {
      read_block(type, stored, block);
      if (adds_minimum(type)) block.minimum ^= 0x8000;
      lay_block(block, format, geometry, column / block_columns, r, group);
    }
  }
}

void pack_split_group(const std::byte* const rows[group_rows], int64_t columns, std::byte* group, std::byte* low,
                      std::byte* norms) {
  const GroupGeometry geometry = group_geometry(Format::s8, columns);
  std::memset(group, 0, static_cast<size_t>(geometry.bytes));
  std::memset(low, 0, static_cast<size_t>(geometry.low_bytes));
  std::memset(norms, 0, static_cast<size_t>(group_rows) * 2);
  Block block;
  for (int64_t r = 0; r < group_rows; ++r) {
    if (!rows[r]) continue;
    double squares = 0;
    for (int64_t b = 0; b < geometry.num_blocks; ++b) {
      read_block(TensorType::q8_0, reinterpret_cast<const uint8_t*>(rows[r]) + b * 34, block);
      const double scale = half_to_float(rows[r] + b * 34);
      uint8_t lower[32];
      for (int i = 0; i < 32; ++i) {
        lower[i] = block.codes[i] & 7;
        block.codes[i] >>= 3;
        squares += scale * scale * (lower[i] - 4) * (lower[i] - 4);
      }
      lay_block(block, Format::s8, geometry, b, r, group);
      lay_lower_bits(lower, r, reinterpret_cast<uint8_t*>(low) + b * low_block_bytes);
    }
    lay_half(norms, 0, r, half_above(std::sqrt(squares)));
  }
}

void unpack_row(const PackedMatrix& matrix, int64_t row, float* out) {
  const std::byte* group = matrix.group(row / group_rows);
  const int64_t lane = row % group_rows;
  const FormatTraits& traits = traits_of(matrix.format);
  const GroupGeometry& geometry = matrix.geometry;
  if (traits.bits == 0) return unpack_float_row(matrix, lane, group, out);
  const int offset = traits.offset_shift < 0 ? 0 : 1 << traits.offset_shift;
  const int64_t parts = block_columns / traits.scale_columns;
  const uint8_t* const low =
      geometry.low_bytes ? reinterpret_cast<const uint8_t*>(matrix.low_group(row / group_rows)) : nullptr;
  for (int64_t part = 0; part < geometry.num_blocks * parts; ++part) {
    const int64_t block_index = part / parts, in_chunk = block_index % geometry.chunk_blocks;
    const std::byte* chunk = group + geometry.chunk_of(block_index);
    const int64_t in_parts = in_chunk * parts + part % parts;
    const float scale = scale_at(traits, geometry, chunk, in_parts, lane);
    const float minimum = minimum_at(traits, geometry, chunk, in_parts, lane);
    const uint8_t* block = reinterpret_cast<const uint8_t*>(chunk) + geometry.codes + in_chunk * geometry.block_bytes;
    const int first = static_cast<int>(part % parts) * traits.scale_columns;
    for (int i = 0; i < traits.scale_columns; ++i) {
      int code = code_at(block, traits.bits, lane, first + i);
      if (low) code = code << 3 | lower_bits_at(low + part / parts * low_block_bytes, lane, first + i);
      code -= offset;
      out[part * traits.scale_columns + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

}  // namespace gemcut
