// One float for each of `lanes` rows. Written in the compiler's vector types: each processor rounds every operation
// alike, nothing is added across lanes, so all instruction sets choose the same codes, bit for bit. Included inside a
// namespace; GEMCUT_LANES is the width.
constexpr int lanes = GEMCUT_LANES;
using VF = float __attribute__((vector_size(4 * GEMCUT_LANES)));
using VI = int32_t __attribute__((vector_size(4 * GEMCUT_LANES)));
using VB = int8_t __attribute__((vector_size(GEMCUT_LANES)));

static inline VF f_set(float x) { return VF{} + x; }
static inline VI i_set(int32_t x) { return VI{} + x; }
// Of equals, and beside a NaN, the second.
static inline VF f_max(VF a, VF b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
static inline VF f_min(VF a, VF b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
static inline VF f_clamp(VF a, float low, float high) { return f_min(f_max(a, f_set(low)), f_set(high)); }
static inline VF f_abs(VF a) { return (VF)((VI)a & 0x7fffffff); }
// Nearest, ties to even, for |a| below 2^22.
static inline VF f_round(VF a) { return (a + 12582912.0f) - 12582912.0f; }
static inline VF f_inverse(VF a) { return a != 0.0f ? 1.0f / a : VF{}; }
static inline void f_keep(VI where, VF* target, VF value) { *target = where ? value : *target; }

// The nearest float16, ties to even; beyond the largest, the largest.
static inline VF f_to_half_grid(VF a) {
  const VI bits = (VI)f_min(f_abs(a), f_set(65504.0f));
  const VF normal = (VF)((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fff);
  const VF subnormal = ((VF)bits + 0.5f) - 0.5f;  // steps of 2^-24
  const VF magnitude = (VF)bits < 6.103515625e-5f ? subnormal : normal;
  return (VF)((VI)magnitude | ((VI)a & (int32_t)0x80000000));
}
