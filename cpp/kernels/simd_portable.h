// 16-lane vectors as plain arrays, for any processor; also the base of the NEON tables. Included inside a namespace.
struct VF { float x[16]; };
struct VI { int32_t x[16]; };
struct VB { uint8_t x[64]; };
struct VP { uint16_t x[32]; };

#define GEMCUT_LANES for (int lane = 0; lane < 16; ++lane)
#define GEMCUT_BYTES for (int byte = 0; byte < 64; ++byte)
static inline VF f_set(float x) { VF r; GEMCUT_LANES r.x[lane] = x; return r; }
static inline VF f_zero() { return f_set(0.0f); }
static inline VF f_load(const float* p) { VF r; __builtin_memcpy(r.x, p, 64); return r; }
static inline void f_store(float* p, VF a) { __builtin_memcpy(p, a.x, 64); }
static inline VF f_add(VF a, VF b) { GEMCUT_LANES a.x[lane] += b.x[lane]; return a; }
static inline VF f_sub(VF a, VF b) { GEMCUT_LANES a.x[lane] -= b.x[lane]; return a; }
static inline VF f_mul(VF a, VF b) { GEMCUT_LANES a.x[lane] *= b.x[lane]; return a; }
static inline VF f_div(VF a, VF b) { GEMCUT_LANES a.x[lane] /= b.x[lane]; return a; }
static inline VF f_fma(VF a, VF b, VF c) { GEMCUT_LANES c.x[lane] += a.x[lane] * b.x[lane]; return c; }  // two roundings
static inline VF f_max(VF a, VF b) { GEMCUT_LANES a.x[lane] = a.x[lane] > b.x[lane] ? a.x[lane] : b.x[lane]; return a; }
static inline VF f_min(VF a, VF b) { GEMCUT_LANES a.x[lane] = a.x[lane] < b.x[lane] ? a.x[lane] : b.x[lane]; return a; }
static inline VF f_abs(VF a) { GEMCUT_LANES a.x[lane] = __builtin_fabsf(a.x[lane]); return a; }
// Nearest, ties to even, for |a| below 2^22.
static inline VF f_round(VF a) { GEMCUT_LANES a.x[lane] = (a.x[lane] + 12582912.0f) - 12582912.0f; return a; }
static inline VF f_select(uint32_t mask, VF a, VF b) { GEMCUT_LANES if (mask >> lane & 1) b.x[lane] = a.x[lane]; return b; }
static inline VF f_exp2_whole(VF a) {
  VF r;
  GEMCUT_LANES {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(a.x[lane]) + 127) << 23;
    __builtin_memcpy(&r.x[lane], &bits, 4);
  }
  return r;
}
static inline float half_to_float(uint16_t half) {
  // Shifted into a float's place, a half is 2^112 too small; subnormals come out right by the same multiplication.
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13, sign = static_cast<uint32_t>(half & 0x8000) << 16;
  float value;
  __builtin_memcpy(&value, &magnitude, 4);
  value *= 5.192296858534828e33f;  // 2^112
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if ((half & 0x7c00) == 0x7c00) bits = 0x7f800000u | (magnitude & 0x007fffffu);
  bits |= sign;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
static inline VF f_from_half(const std::byte* p) {
  uint16_t halves[16];
  __builtin_memcpy(halves, p, 32);
  VF r;
  GEMCUT_LANES r.x[lane] = half_to_float(halves[lane]);
  return r;
}
static inline VF f_from_u8(const std::byte* p) { VF r; GEMCUT_LANES r.x[lane] = static_cast<float>(static_cast<uint8_t>(p[lane])); return r; }
static inline VF f_from_i8(const std::byte* p) { VF r; GEMCUT_LANES r.x[lane] = static_cast<float>(static_cast<int8_t>(p[lane])); return r; }
static inline VF f_from_int(VI a) { VF r; GEMCUT_LANES r.x[lane] = static_cast<float>(a.x[lane]); return r; }
static inline VI i_set(int32_t x) { VI r; GEMCUT_LANES r.x[lane] = x; return r; }
static inline VI i_add(VI a, VI b) { GEMCUT_LANES a.x[lane] += b.x[lane]; return a; }
template <int bits>
static inline VI i_shift_left(VI a) { GEMCUT_LANES a.x[lane] *= 1 << bits; return a; }
static inline VI f_to_int(VF a) { VI r; a = f_round(a); GEMCUT_LANES r.x[lane] = static_cast<int32_t>(a.x[lane]); return r; }
static inline void f_store_i8(int8_t* p, VF a) { const VI r = f_to_int(a); GEMCUT_LANES p[lane] = static_cast<int8_t>(r.x[lane]); }

static inline VB b_load(const std::byte* p) { VB r; __builtin_memcpy(r.x, p, 64); return r; }
static inline VB b_set(uint8_t x) { VB r; GEMCUT_BYTES r.x[byte] = x; return r; }
static inline VB b_and(VB a, VB b) { GEMCUT_BYTES a.x[byte] &= b.x[byte]; return a; }
static inline VB b_or_and(VB a, VB b, VB mask) { GEMCUT_BYTES a.x[byte] |= b.x[byte] & mask.x[byte]; return a; }
template <int bits>  // only bits that stay inside a byte are used, so bytes may be shifted one by one
static inline VB b_shift(VB a) {
  if constexpr (bits > 0) GEMCUT_BYTES a.x[byte] = static_cast<uint8_t>(a.x[byte] << bits);
  if constexpr (bits < 0) GEMCUT_BYTES a.x[byte] = static_cast<uint8_t>(a.x[byte] >> -bits);
  return a;
}
#ifndef GEMCUT_OWN_DOT4
static inline VI i_dot4(VI acc, VB codes, const int8_t* x) {
  GEMCUT_LANES {
    const uint8_t* code = codes.x + 4 * lane;
    acc.x[lane] += code[0] * x[0] + code[1] * x[1] + code[2] * x[2] + code[3] * x[3];
  }
  return acc;
}
#endif
// acc[r] += sum over i < 2 of pairs[2 r + i] * x[i]; pairs of 16-bit integers out of 32 unsigned bytes.
static inline VP i_pairs(const std::byte* p) {
  VP r;
  for (int i = 0; i < 32; ++i) r.x[i] = static_cast<uint16_t>(p[i]);
  return r;
}
static inline VI i_dot2(VI acc, VP pairs, const int16_t* x) {
  GEMCUT_LANES acc.x[lane] += pairs.x[2 * lane] * x[0] + pairs.x[2 * lane + 1] * x[1];
  return acc;
}
static inline float f_sum(VF a) {
  for (int width = 8; width; width /= 2)
    for (int lane = 0; lane < width; ++lane) a.x[lane] += a.x[lane + width];
  return a.x[0];
}
static inline float f_largest(VF a) { float m = a.x[0]; GEMCUT_LANES m = a.x[lane] > m ? a.x[lane] : m; return m; }
static inline int32_t i_sum(VI a) { int32_t s = 0; GEMCUT_LANES s += a.x[lane]; return s; }
static inline uint32_t f_equal(VF a, float x) { uint32_t m = 0; GEMCUT_LANES m |= static_cast<uint32_t>(a.x[lane] == x) << lane; return m; }

static inline float bf16_to_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
static inline VP p_load(const std::byte* p) { VP r; __builtin_memcpy(r.x, p, 64); return r; }
static inline VP p_set(const uint16_t* pair) { VP r; GEMCUT_LANES { r.x[2 * lane] = pair[0]; r.x[2 * lane + 1] = pair[1]; } return r; }
static inline VF p_dot(VF acc, VP a, VP b) {
  GEMCUT_LANES {
    acc.x[lane] += bf16_to_float(a.x[2 * lane]) * bf16_to_float(b.x[2 * lane]);
    acc.x[lane] += bf16_to_float(a.x[2 * lane + 1]) * bf16_to_float(b.x[2 * lane + 1]);
  }
  return acc;
}
static inline void f_store_bf16(uint16_t* p, VF a) {
  GEMCUT_LANES {
    uint32_t bits;
    __builtin_memcpy(&bits, &a.x[lane], 4);
    p[lane] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
static inline void b_prefetch(const std::byte*) {}
