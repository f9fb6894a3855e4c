// The 4-way dot product of 8-bit integers on ARM, over the plain arrays of simd_portable.h, which is included before
// it with GEMCUT_OWN_DOT4 defined. Included inside a namespace. GEMCUT_I8MM: the instruction that takes unsigned codes
// and signed inputs is there; else both are signed.
static inline int8x16_t repeated_four(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
#ifdef GEMCUT_I8MM
static inline VI i_dot4(VI acc, VB codes, const int8_t* x) {
  const int8x16_t all = repeated_four(x);
  for (int part = 0; part < 4; ++part)
    vst1q_s32(acc.x + 4 * part, vusdotq_s32(vld1q_s32(acc.x + 4 * part), vld1q_u8(codes.x + 16 * part), all));
  return acc;
}
#else
// Codes below 128, whose bits mean the same with a sign.
static inline VI i_dot4_low(VI acc, VB codes, const int8_t* x) {
  const int8x16_t all = repeated_four(x);
  for (int part = 0; part < 4; ++part)
    vst1q_s32(acc.x + 4 * part,
              vdotq_s32(vld1q_s32(acc.x + 4 * part), vreinterpretq_s8_u8(vld1q_u8(codes.x + 16 * part)), all));
  return acc;
}
#define GEMCUT_DOT4_LOW
// sum code x = sum (code - 128) x + 128 sum x; code - 128 is the code with its highest bit turned.
static inline VI i_dot4(VI acc, VB codes, const int8_t* x) {
  const int8x16_t all = repeated_four(x);
  const int32x4_t rest = vdupq_n_s32(128 * (x[0] + x[1] + x[2] + x[3]));
  for (int part = 0; part < 4; ++part) {
    const int8x16_t with_sign = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes.x + 16 * part), vdupq_n_u8(0x80)));
    vst1q_s32(acc.x + 4 * part, vdotq_s32(vaddq_s32(vld1q_s32(acc.x + 4 * part), rest), with_sign, all));
  }
  return acc;
}
#endif
