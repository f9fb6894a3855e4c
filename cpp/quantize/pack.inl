// Codes into the bytes of one block: the inverses of gemcut.quantize.dequantize. Included inside a namespace.

// The bits of a float that lies on float16's grid.
static inline uint16_t half_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  float positive;
  __builtin_memcpy(&positive, &magnitude, 4);
  if (positive < 6.103515625e-5f) return static_cast<uint16_t>(sign | static_cast<uint32_t>(positive * 16777216.0f));
  return static_cast<uint16_t>(sign | ((magnitude >> 13) - (112u << 10)));
}
static inline void store_half(uint8_t* out, float value) {
  const uint16_t bits = half_bits(value);
  __builtin_memcpy(out, &bits, 2);
}

// Codes of one lane of a block: code(i) = bytes[i * lanes].
struct Codes {
  const int8_t* bytes;
  uint8_t operator[](int i) const { return static_cast<uint8_t>(bytes[i * lanes]); }
};

static inline void pack_nibbles(Codes codes, uint8_t* out) {  // 32 codes, 16 bytes
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>((codes[i] & 15) | codes[i + 16] << 4);
}
static inline void pack_fifth_bits(Codes codes, uint8_t* out) {  // 32 codes, 4 bytes
  for (int byte = 0; byte < 4; ++byte) {
    uint32_t bits = 0;
    for (int bit = 0; bit < 8; ++bit) bits |= static_cast<uint32_t>(codes[8 * byte + bit] >> 4 & 1) << bit;
    out[byte] = static_cast<uint8_t>(bits);
  }
}

// 8 scales and 8 minimums of 6 bits in 12 bytes.
static inline void pack_six_bit_pairs(const uint8_t* scales, const uint8_t* minimums, uint8_t* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = static_cast<uint8_t>(scales[i] | (scales[i + 4] >> 4) << 6);
    out[4 + i] = static_cast<uint8_t>(minimums[i] | (minimums[i + 4] >> 4) << 6);
    out[8 + i] = static_cast<uint8_t>((scales[i + 4] & 15) | (minimums[i + 4] & 15) << 4);
  }
}

struct PackQ2K {
  static void pack(Codes codes, const uint8_t* scales, const uint8_t* minimums, float d, float dmin, uint8_t* out) {
    for (int g = 0; g < 16; ++g) out[g] = static_cast<uint8_t>(scales[g] | minimums[g] << 4);
    for (int i = 0; i < 64; ++i) {
      const int first = i / 32 * 128 + i % 32;
      out[16 + i] = static_cast<uint8_t>(codes[first] | codes[first + 32] << 2 | codes[first + 64] << 4 | codes[first + 96] << 6);
    }
    store_half(out + 80, d);
    store_half(out + 82, dmin);
  }
};

struct PackQ4K {
  static void pack(Codes codes, const uint8_t* scales, const uint8_t* minimums, float d, float dmin, uint8_t* out) {
    store_half(out, d);
    store_half(out + 2, dmin);
    pack_six_bit_pairs(scales, minimums, out + 4);
    for (int i = 0; i < 128; ++i) {
      const int first = i / 32 * 64 + i % 32;
      out[16 + i] = static_cast<uint8_t>(codes[first] | codes[first + 32] << 4);
    }
  }
};

struct PackQ5K {
  static void pack(Codes codes, const uint8_t* scales, const uint8_t* minimums, float d, float dmin, uint8_t* out) {
    store_half(out, d);
    store_half(out + 2, dmin);
    pack_six_bit_pairs(scales, minimums, out + 4);
    for (int i = 0; i < 32; ++i) {
      uint32_t bits = 0;
      for (int g = 0; g < 8; ++g) bits |= static_cast<uint32_t>(codes[32 * g + i] >> 4 & 1) << g;
      out[16 + i] = static_cast<uint8_t>(bits);
    }
    for (int i = 0; i < 128; ++i) {
      const int first = i / 32 * 64 + i % 32;
      out[48 + i] = static_cast<uint8_t>((codes[first] & 15) | codes[first + 32] << 4);
    }
  }
};

struct PackQ3K {  // codes and scales come with 4 and 32 added
  static void pack(Codes codes, const uint8_t* scales, float d, uint8_t* out) {
    for (int i = 0; i < 32; ++i) {
      uint32_t bits = 0;
      for (int g = 0; g < 8; ++g) bits |= static_cast<uint32_t>(codes[32 * g + i] >> 2 & 1) << g;
      out[i] = static_cast<uint8_t>(bits);
    }
    for (int i = 0; i < 64; ++i) {
      const int first = i / 32 * 128 + i % 32;
      out[32 + i] = static_cast<uint8_t>((codes[first] & 3) | (codes[first + 32] & 3) << 2 | (codes[first + 64] & 3) << 4 |
                                         (codes[first + 96] & 3) << 6);
    }
    for (int g = 0; g < 8; ++g) out[96 + g] = static_cast<uint8_t>((scales[g] & 15) | (scales[g + 8] & 15) << 4);
    for (int g = 0; g < 4; ++g)
      out[104 + g] = static_cast<uint8_t>(scales[g] >> 4 | scales[g + 4] >> 4 << 2 | scales[g + 8] >> 4 << 4 |
                                          scales[g + 12] >> 4 << 6);
    store_half(out + 108, d);
  }
};

struct PackQ6K {  // codes come with 32 added
  static void pack(Codes codes, const uint8_t* scales, float d, uint8_t* out) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 64; ++i) {
        const int first = 128 * half + i;
        out[64 * half + i] = static_cast<uint8_t>((codes[first] & 15) | (codes[first + 64] & 15) << 4);
      }
      for (int i = 0; i < 32; ++i) {
        const int first = 128 * half + i;
        out[128 + 32 * half + i] = static_cast<uint8_t>(codes[first] >> 4 | codes[first + 32] >> 4 << 2 |
                                                        codes[first + 64] >> 4 << 4 | codes[first + 96] >> 4 << 6);
      }
    }
    __builtin_memcpy(out + 192, scales, 16);
    store_half(out + 208, d);
  }
};
