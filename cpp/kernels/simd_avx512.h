// 16-lane vectors on AVX-512 (F, BW, DQ, VL, VNNI, VBMI; BF16 where GEMCUT_BF16 is set). Included inside a namespace.
using VF = __m512;   // 16 floats
using VI = __m512i;  // 16 int32
using VB = __m512i;  // 64 bytes

static inline VF f_zero() { return _mm512_setzero_ps(); }
static inline VF f_set(float x) { return _mm512_set1_ps(x); }
static inline VF f_load(const float* p) { return _mm512_loadu_ps(p); }
static inline void f_store(float* p, VF a) { _mm512_storeu_ps(p, a); }
static inline VF f_add(VF a, VF b) { return _mm512_add_ps(a, b); }
static inline VF f_sub(VF a, VF b) { return _mm512_sub_ps(a, b); }
static inline VF f_mul(VF a, VF b) { return _mm512_mul_ps(a, b); }
static inline VF f_div(VF a, VF b) { return _mm512_div_ps(a, b); }
static inline VF f_fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }  // a b + c
static inline VF f_max(VF a, VF b) { return _mm512_max_ps(a, b); }
static inline VF f_min(VF a, VF b) { return _mm512_min_ps(a, b); }
static inline VF f_abs(VF a) { return _mm512_abs_ps(a); }
static inline VF f_round(VF a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// Lanes of `a` where bit `lane` of the mask is set, else of `b`.
static inline VF f_select(uint32_t mask, VF a, VF b) { return _mm512_mask_blend_ps(static_cast<__mmask16>(mask), b, a); }
// 2^a for whole numbers a in -126..127.
static inline VF f_exp2_whole(VF a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23));
}
static inline VF f_from_half(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline VF f_from_u8(const std::byte* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline VF f_from_i8(const std::byte* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline VF f_from_int(VI a) { return _mm512_cvtepi32_ps(a); }
static inline VI i_set(int32_t x) { return _mm512_set1_epi32(x); }
static inline VI i_add(VI a, VI b) { return _mm512_add_epi32(a, b); }
template <int bits>
static inline VI i_shift_left(VI a) { return _mm512_slli_epi32(a, bits); }
// Integers nearest to 16 floats in -127..127, as bytes.
static inline void f_store_i8(int8_t* p, VF a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
static inline VI f_to_int(VF a) { return _mm512_cvtps_epi32(a); }

static inline VB b_load(const std::byte* p) { return _mm512_loadu_si512(p); }
static inline VB b_set(uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
static inline VB b_and(VB a, VB b) { return _mm512_and_si512(a, b); }
static inline VB b_or_and(VB a, VB b, VB mask) { return _mm512_ternarylogic_epi64(a, b, mask, 0xF8); }  // a | (b & mask)
template <int bits>  // of 16-bit units; above zero to the left, below to the right
static inline VB b_shift(VB a) {
  if constexpr (bits > 0) return _mm512_slli_epi16(a, bits);
  if constexpr (bits < 0) return _mm512_srli_epi16(a, -bits);
  return a;
}
// acc[r] += sum over i < 4 of code[4 r + i] * x[i], codes unsigned, x four int8.
static inline VI i_dot4(VI acc, VB codes, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_dpbusd_epi32(acc, codes, _mm512_set1_epi32(four));
}

// The same with signed codes and x of unsigned bytes.
#define GEMCUT_PANELS
static inline VI i_dot4_turned(VI acc, VB codes, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_dpbusd_epi32(acc, _mm512_set1_epi32(four), codes);
}
// acc[r] += sum over i < 4 of the signed bytes 4 r + i.
static inline VI i_add_bytes(VI acc, VB bytes) { return _mm512_dpbusd_epi32(acc, _mm512_set1_epi8(1), bytes); }
static inline VB b_sub(VB a, VB b) { return _mm512_sub_epi8(a, b); }
static inline void b_store(std::byte* p, VB a) { _mm512_storeu_si512(p, a); }
static inline VI i_load(const std::byte* p) { return _mm512_loadu_si512(p); }
static inline void i_store(std::byte* p, VI a) { _mm512_storeu_si512(p, a); }
static inline VI i_negate(VI a) { return _mm512_sub_epi32(_mm512_setzero_si512(), a); }
// acc[r] += sum over i < 2 of pairs[2 r + i] * x[i]; pairs of 16-bit integers out of 32 unsigned bytes.
static inline VI i_pairs(const std::byte* p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline VI i_dot2(VI acc, VI pairs, const int16_t* x) {
  int32_t two;
  __builtin_memcpy(&two, x, 4);
  return _mm512_dpwssd_epi32(acc, pairs, _mm512_set1_epi32(two));
}

static inline float f_sum(VF a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
static inline float f_largest(VF a) { return _mm512_reduce_max_ps(a); }
static inline int32_t i_sum(VI a) { return _mm512_reduce_add_epi32(a); }
// Bit of each lane whose value equals x.
static inline uint32_t f_equal(VF a, float x) { return _mm512_cmpeq_ps_mask(a, _mm512_set1_ps(x)); }

// 16 pairs of bfloat16, lane by lane.
using VP = __m512i;
static inline VP p_load(const std::byte* p) { return _mm512_loadu_si512(p); }
static inline VP p_set(const uint16_t* pair) {
  int32_t both;
  __builtin_memcpy(&both, pair, 4);
  return _mm512_set1_epi32(both);
}
#ifdef GEMCUT_BF16
static inline VF p_dot(VF acc, VP a, VP b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
static inline void f_store_bf16(uint16_t* p, VF a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
}
#else
static inline VF p_low(VP a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
static inline VF p_high(VP a) { return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(-65536))); }
static inline VF p_dot(VF acc, VP a, VP b) { return f_fma(p_high(a), p_high(b), f_fma(p_low(a), p_low(b), acc)); }
static inline void f_store_bf16(uint16_t* p, VF a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
#endif
// Not _mm_prefetch: GCC takes a function of nothing but prefetches for one without effect, and drops its calls.
static inline void b_prefetch(const std::byte* p) { asm volatile("prefetcht0 %0" : : "m"(*p)); }
