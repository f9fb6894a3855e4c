// Stored rows to float32, value by value; the kernels do it faster.
#include <bit>
#include <cstring>

#include "formats/message.h"
#include "formats/tensor.h"

namespace gemcut {

namespace {

// Every decoder turns one block into values. The order of the float operations is part of the format: ggml's
// reference, the gguf package and gemcut.quantize.dequantize compute in it. A product must not be fused with the sum
// after it, which is why all of Gemcut is compiled with -ffp-contract=off.

template <class Number>
Number load(const std::byte* at) {
  Number value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

const uint8_t* bytes_of(const std::byte* block) { return reinterpret_cast<const uint8_t*>(block); }

// An IEEE binary16 as float, exactly.
float half(const std::byte* at) {
  const uint32_t bits = load<uint16_t>(at), sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31;
  const uint32_t mantissa = bits & 0x3FF;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | mantissa << 13);
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Two values out of each of 16 bytes: low nibbles are the first half of a block of 32, high nibbles the second.
template <class Function>
void each_nibble(const uint8_t* packed, float* out, Function&& value) {
  for (int i = 0; i < 16; ++i) {
    out[i] = value(packed[i] & 15, i);
    out[i + 16] = value(packed[i] >> 4, i + 16);
  }
}

void decode_q4_0(const std::byte* block, float* out) {
  const float scale = half(block);
  each_nibble(bytes_of(block) + 2, out, [&](int q, int) { return static_cast<float>(q - 8) * scale; });
}

void decode_q4_1(const std::byte* block, float* out) {
  const float scale = half(block), minimum = half(block + 2);
  each_nibble(bytes_of(block) + 4, out, [&](int q, int) {
    const float product = static_cast<float>(q) * scale;
    return product + minimum;
  });
}

void decode_q5_0(const std::byte* block, float* out) {
  const float scale = half(block);
  const auto high = load<uint32_t>(block + 2);
  each_nibble(bytes_of(block) + 6, out, [&](int q, int i) {
    return static_cast<float>((q | static_cast<int>(high >> i & 1) << 4) - 16) * scale;
  });
}

void decode_q5_1(const std::byte* block, float* out) {
  const float scale = half(block), minimum = half(block + 2);
  const auto high = load<uint32_t>(block + 4);
  each_nibble(bytes_of(block) + 8, out, [&](int q, int i) {
    const float product = static_cast<float>(q | static_cast<int>(high >> i & 1) << 4) * scale;
    return product + minimum;
  });
}

void decode_q8_0(const std::byte* block, float* out) {
  const float scale = half(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(load<int8_t>(block + 2 + i)) * scale;
}

// ggml's non-linear 4-bit codebook (kvalues_iq4nl).
constexpr float kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void decode_iq4_nl(const std::byte* block, float* out) {
  const float scale = half(block);
  each_nibble(bytes_of(block) + 2, out, [&](int q, int) { return kNonLinear[q] * scale; });
}

// 8 groups of 32: 6-bit signed scale, 4-bit codebook values.
void decode_iq4_xs(const std::byte* block, float* out) {
  const float scale = half(block);
  const int high = load<uint16_t>(block + 2);
  const uint8_t* low = bytes_of(block) + 4;
  for (int group = 0; group < 8; ++group) {
    const int bits = (low[group / 2] >> 4 * (group % 2) & 15) | (high >> 2 * group & 3) << 4;
    const float group_scale = scale * static_cast<float>(bits - 32);
    each_nibble(bytes_of(block) + 8 + 16 * group, out + 32 * group,
                [&](int q, int) { return group_scale * kNonLinear[q]; });
  }
}

// 16 groups of 16: 4-bit scale and minimum, 2-bit values.
void decode_q2_k(const std::byte* block, float* out) {
  const float scale = half(block + 80), minimum = half(block + 82);
  const uint8_t *scales = bytes_of(block), *packed = bytes_of(block) + 16;
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16, q = packed[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
    const float group_scale = scale * static_cast<float>(scales[group] & 15);
    const float group_minimum = minimum * static_cast<float>(scales[group] >> 4);
    const float product = static_cast<float>(q) * group_scale;
    out[i] = product - group_minimum;
  }
}

// 16 groups of 16: 6-bit signed scale, 2-bit values; 4 is taken off where the mask bit is clear.
void decode_q3_k(const std::byte* block, float* out) {
  const float scale = half(block + 108);
  const uint8_t *mask = bytes_of(block), *packed = mask + 32, *low = mask + 96, *high = mask + 104;
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16;
    const int bits = (low[group % 8] >> 4 * (group / 8) & 15) | (high[group % 4] >> 2 * (group / 4) & 3) << 4;
    const float group_scale = scale * static_cast<float>(bits - 32);
    const int q = packed[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
    const int set = mask[i % 32] >> (i / 32) & 1;
    out[i] = static_cast<float>(q - (set ? 0 : 4)) * group_scale;
  }
}

struct GroupScale {
  float scale, minimum;
};

// Scale and minimum of one of the 8 groups of a Q4_K or Q5_K block: 6-bit numbers in bytes 4 to 15, four of each in
// the low bits of 4 + 4 bytes, the others split between the nibbles of the last 4 and the top bits of the first 8.
GroupScale group_scale(const std::byte* block, int group) {
  const uint8_t* bytes = bytes_of(block) + 4;
  const int j = group % 4;
  const int scale = group < 4 ? bytes[j] & 63 : (bytes[8 + j] & 15) | (bytes[j] >> 2 & 48);
  const int minimum = group < 4 ? bytes[4 + j] & 63 : bytes[8 + j] >> 4 | (bytes[4 + j] >> 2 & 48);
  return {half(block) * static_cast<float>(scale), half(block + 2) * static_cast<float>(minimum)};
}

// 8 groups of 32: 6-bit scale and minimum, 4-bit values.
void decode_q4_k(const std::byte* block, float* out) {
  const uint8_t* packed = bytes_of(block) + 16;
  for (int group = 0; group < 8; ++group) {
    const GroupScale of = group_scale(block, group);
    for (int i = 0; i < 32; ++i) {
      const int q = packed[group / 2 * 32 + i] >> 4 * (group % 2) & 15;
      const float product = static_cast<float>(q) * of.scale;
      out[group * 32 + i] = product - of.minimum;
    }
  }
}

// As Q4_K, each value with a fifth bit.
void decode_q5_k(const std::byte* block, float* out) {
  const uint8_t *high = bytes_of(block) + 16, *packed = high + 32;
  for (int group = 0; group < 8; ++group) {
    const GroupScale of = group_scale(block, group);
    for (int i = 0; i < 32; ++i) {
      const int q = (packed[group / 2 * 32 + i] >> 4 * (group % 2) & 15) | (high[i] >> group & 1) << 4;
      const float product = static_cast<float>(q) * of.scale;
      out[group * 32 + i] = product - of.minimum;
    }
  }
}

// 16 groups of 16: 8-bit signed scale, 6-bit values around 32.
void decode_q6_k(const std::byte* block, float* out) {
  const float scale = half(block + 208);
  const uint8_t *low = bytes_of(block), *high = low + 128;
  for (int i = 0; i < 256; ++i) {
    const float of_group = scale * static_cast<float>(load<int8_t>(block + 192 + i / 16));
    const int four = low[i / 128 * 64 + i % 64] >> 4 * (i % 128 / 64) & 15;
    const int two = high[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
    out[i] = static_cast<float>((four | two << 4) - 32) * of_group;
  }
}

void decode_block(TensorType type, const std::byte* block, float* out) {
  switch (type) {
    case TensorType::f32: *out = load<float>(block); return;
    case TensorType::f16: *out = half(block); return;
    case TensorType::bf16: *out = std::bit_cast<float>(uint32_t{load<uint16_t>(block)} << 16); return;
    case TensorType::q4_0: return decode_q4_0(block, out);
    case TensorType::q4_1: return decode_q4_1(block, out);
    case TensorType::q5_0: return decode_q5_0(block, out);
    case TensorType::q5_1: return decode_q5_1(block, out);
    case TensorType::q8_0: return decode_q8_0(block, out);
    case TensorType::q2_k: return decode_q2_k(block, out);
    case TensorType::q3_k: return decode_q3_k(block, out);
    case TensorType::q4_k: return decode_q4_k(block, out);
    case TensorType::q5_k: return decode_q5_k(block, out);
    case TensorType::q6_k: return decode_q6_k(block, out);
    case TensorType::iq4_nl: return decode_iq4_nl(block, out);
    case TensorType::iq4_xs: return decode_iq4_xs(block, out);
  }
}

}  // namespace

void dequantize_row(TensorType type, const std::byte* row_data, int64_t columns, float* out) {
  const TypeTraits& traits = type_traits(type);
  if (columns < 0 || columns % traits.block_values)
    throw Error(ErrorKind::usage,
                message("[formats.dequantize] a row of ", columns, " numbers, expected a multiple of ",
                                          traits.block_values, " for ", traits.name, "."));
  for (int64_t at = 0; at < columns; at += traits.block_values, row_data += traits.block_bytes)
    decode_block(type, row_data, out + at);
}

}  // namespace gemcut
