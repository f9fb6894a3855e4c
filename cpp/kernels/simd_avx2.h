// 16-lane vectors as two AVX2 registers (AVX2, FMA, F16C; the VEX dot product where GEMCUT_VNNI is set).
// Included inside a namespace.
struct VF { __m256 a, b; };
struct VI { __m256i a, b; };
using VB = VI;
using VP = VI;

#define GEMCUT_BOTH(type, expression_a, expression_b) \
  return type { expression_a, expression_b }
static inline VF f_zero() { GEMCUT_BOTH(VF, _mm256_setzero_ps(), _mm256_setzero_ps()); }
static inline VF f_set(float x) { GEMCUT_BOTH(VF, _mm256_set1_ps(x), _mm256_set1_ps(x)); }
static inline VF f_load(const float* p) { GEMCUT_BOTH(VF, _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
static inline void f_store(float* p, VF x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
static inline VF f_add(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
static inline VF f_sub(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)); }
static inline VF f_mul(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
static inline VF f_div(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
static inline VF f_fma(VF x, VF y, VF z) {
  GEMCUT_BOTH(VF, _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
static inline VF f_max(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
static inline VF f_min(VF x, VF y) { GEMCUT_BOTH(VF, _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
static inline VF f_abs(VF x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  GEMCUT_BOTH(VF, _mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
static inline VF f_round(VF x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  GEMCUT_BOTH(VF, _mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode));
}
static inline __m256 f_mask(uint32_t mask) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i all = _mm256_set1_epi32(static_cast<int32_t>(mask & 0xff));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, bits), bits));
}
static inline VF f_select(uint32_t mask, VF x, VF y) {
  GEMCUT_BOTH(VF, _mm256_blendv_ps(y.a, x.a, f_mask(mask)), _mm256_blendv_ps(y.b, x.b, f_mask(mask >> 8)));
}
static inline __m256 f_exp2_half(__m256 x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127)), 23));
}
static inline VF f_exp2_whole(VF x) { GEMCUT_BOTH(VF, f_exp2_half(x.a), f_exp2_half(x.b)); }
static inline VF f_from_half(const std::byte* p) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(p);
  GEMCUT_BOTH(VF, _mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1)));
}
static inline VF f_from_u8(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  GEMCUT_BOTH(VF, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
              _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))));
}
static inline VF f_from_i8(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  GEMCUT_BOTH(VF, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
              _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))));
}
static inline VF f_from_int(VI x) { GEMCUT_BOTH(VF, _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
static inline VI i_set(int32_t x) { GEMCUT_BOTH(VI, _mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
static inline VI i_add(VI x, VI y) { GEMCUT_BOTH(VI, _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
template <int bits>
static inline VI i_shift_left(VI x) { GEMCUT_BOTH(VI, _mm256_slli_epi32(x.a, bits), _mm256_slli_epi32(x.b, bits)); }
static inline VI f_to_int(VF x) { GEMCUT_BOTH(VI, _mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)); }
static inline void f_store_i8(int8_t* p, VF x) {
  const VI whole = f_to_int(x);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(whole.a, whole.b), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

static inline VB b_load(const std::byte* p) {
  const __m256i* vectors = reinterpret_cast<const __m256i*>(p);
  GEMCUT_BOTH(VB, _mm256_loadu_si256(vectors), _mm256_loadu_si256(vectors + 1));
}
static inline VB b_set(uint8_t x) {
  const __m256i all = _mm256_set1_epi8(static_cast<char>(x));
  GEMCUT_BOTH(VB, all, all);
}
static inline VB b_and(VB x, VB y) { GEMCUT_BOTH(VB, _mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)); }
static inline VB b_or_and(VB x, VB y, VB mask) {
  GEMCUT_BOTH(VB, _mm256_or_si256(x.a, _mm256_and_si256(y.a, mask.a)),
              _mm256_or_si256(x.b, _mm256_and_si256(y.b, mask.b)));
}
template <int bits>
static inline VB b_shift(VB x) {
  if constexpr (bits > 0) GEMCUT_BOTH(VB, _mm256_slli_epi16(x.a, bits), _mm256_slli_epi16(x.b, bits));
  if constexpr (bits < 0) GEMCUT_BOTH(VB, _mm256_srli_epi16(x.a, -bits), _mm256_srli_epi16(x.b, -bits));
  return x;
}
#ifdef GEMCUT_VNNI
static inline __m256i i_dot4_half(__m256i acc, __m256i codes, __m256i x) { return _mm256_dpbusd_avx_epi32(acc, codes, x); }
#else
// Codes of 8 bits would overflow the 16-bit sums of pairs: they are split in two halves of the range.
static inline __m256i i_dot4_half(__m256i acc, __m256i codes, __m256i x) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 1), _mm256_set1_epi8(0x40));
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), ones));
  return _mm256_add_epi32(acc, _mm256_slli_epi32(_mm256_madd_epi16(_mm256_maddubs_epi16(high, x), ones), 1));
}
static inline __m256i i_dot4_small(__m256i acc, __m256i codes, __m256i x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1)));
}
#endif
static inline VI i_dot4(VI acc, VB codes, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  const __m256i all = _mm256_set1_epi32(four);
  GEMCUT_BOTH(VI, i_dot4_half(acc.a, codes.a, all), i_dot4_half(acc.b, codes.b, all));
}
#ifndef GEMCUT_VNNI
// Codes below 64.
static inline VI i_dot4_low(VI acc, VB codes, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  const __m256i all = _mm256_set1_epi32(four);
  GEMCUT_BOTH(VI, i_dot4_small(acc.a, codes.a, all), i_dot4_small(acc.b, codes.b, all));
}
#define GEMCUT_DOT4_LOW
#endif

// acc[r] += sum over i < 2 of pairs[2 r + i] * x[i]; pairs of 16-bit integers out of 32 unsigned bytes.
static inline VI i_pairs(const std::byte* p) {
  const auto half = [](const std::byte* from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  };
  GEMCUT_BOTH(VI, half(p), half(p + 16));
}
static inline VI i_dot2(VI acc, VI pairs, const int16_t* x) {
  int32_t two;
  __builtin_memcpy(&two, x, 4);
  const __m256i all = _mm256_set1_epi32(two);
  GEMCUT_BOTH(VI, _mm256_add_epi32(acc.a, _mm256_madd_epi16(pairs.a, all)),
              _mm256_add_epi32(acc.b, _mm256_madd_epi16(pairs.b, all)));
}

static inline float f_sum(VF x) {
  const __m256 half = _mm256_add_ps(x.a, x.b);
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
static inline float f_largest(VF x) {
  const __m256 half = _mm256_max_ps(x.a, x.b);
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}
static inline int32_t i_sum(VI x) {
  const __m256i half = _mm256_add_epi32(x.a, x.b);
  const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i pair = _mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 0xB1)));
}
static inline uint32_t f_equal(VF x, float value) {
  const __m256 all = _mm256_set1_ps(value);
  const uint32_t low = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.a, all, _CMP_EQ_OQ)));
  return low | static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.b, all, _CMP_EQ_OQ))) << 8;
}

static inline VP p_load(const std::byte* p) { return b_load(p); }
static inline VP p_set(const uint16_t* pair) {
  int32_t both;
  __builtin_memcpy(&both, pair, 4);
  return i_set(both);
}
static inline VF p_low(VP x) {
  GEMCUT_BOTH(VF, _mm256_castsi256_ps(_mm256_slli_epi32(x.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(x.b, 16)));
}
static inline VF p_high(VP x) {
  const __m256i mask = _mm256_set1_epi32(-65536);
  GEMCUT_BOTH(VF, _mm256_castsi256_ps(_mm256_and_si256(x.a, mask)), _mm256_castsi256_ps(_mm256_and_si256(x.b, mask)));
}
static inline VF p_dot(VF acc, VP x, VP y) { return f_fma(p_high(x), p_high(y), f_fma(p_low(x), p_low(y), acc)); }
static inline __m256i f_rounded_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
static inline void f_store_bf16(uint16_t* p, VF x) {
  const __m256i words = _mm256_packus_epi32(f_rounded_bf16(x.a), f_rounded_bf16(x.b));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xD8));
}
// Not _mm_prefetch: GCC takes a function of nothing but prefetches for one without effect, and drops its calls.
static inline void b_prefetch(const std::byte* p) { asm volatile("prefetcht0 %0" : : "m"(*p)); }
#undef GEMCUT_BOTH
