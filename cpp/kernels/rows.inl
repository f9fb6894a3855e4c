// Kernels over one row of floats: quantising, norms, rotation, activations, the head's statistics.
// Included inside a namespace, after a simd header.

// e^x to about 2 units in the last place; as at -87.3 (1e-38) below it, as at 88 (2e38) above.
static inline VF f_exp(VF x) {
  x = f_max(f_min(x, f_set(88.0f)), f_set(-87.3f));
  const VF whole = f_round(f_mul(x, f_set(1.44269504088896341f)));
  // ln 2 in two parts, so that the rest is exact to the last bit.
  VF rest = f_fma(whole, f_set(-0.693145751953125f), x);
  rest = f_fma(whole, f_set(-1.42860682030941723e-6f), rest);
  // Coefficients: Taylor's up to x^6 / 720 suffices for |x| <= ln 2 / 2 (next term 4e-8 relative).
  VF sum = f_set(1.0f / 5040);
  sum = f_fma(sum, rest, f_set(1.0f / 720));
  sum = f_fma(sum, rest, f_set(1.0f / 120));
  sum = f_fma(sum, rest, f_set(1.0f / 24));
  sum = f_fma(sum, rest, f_set(1.0f / 6));
  sum = f_fma(sum, rest, f_set(0.5f));
  sum = f_fma(sum, rest, f_set(1.0f));
  sum = f_fma(sum, rest, f_set(1.0f));
  return f_mul(sum, f_exp2_whole(whole));
}

// tanh(x) = 1 - 2 / (e^(2x) + 1)
static inline VF f_tanh(VF x) {
  const VF doubled = f_exp(f_add(x, x));
  return f_sub(f_set(1.0f), f_div(f_set(2.0f), f_add(doubled, f_set(1.0f))));
}

// Loads `count` < 16 floats, zeros after them.
static inline VF f_load_part(const float* p, int64_t count) {
  alignas(64) float lanes[16] = {};
  for (int64_t i = 0; i < 16 && i < count; ++i) lanes[i] = p[i];
  return f_load(lanes);
}
static inline void f_store_part(float* p, VF a, int64_t count) {
  alignas(64) float lanes[16];
  f_store(lanes, a);
  for (int64_t i = 0; i < 16 && i < count; ++i) p[i] = lanes[i];
}

// Below this a block counts as zeros: 127 / largest would be infinite.
constexpr float smallest_quantised = 4e-37f;

// In -127..127, a NaN as -127: what follows never meets an integer out of range.
static inline VF f_clamp127(VF x) { return f_min(f_max(x, f_set(-127.0f)), f_set(127.0f)); }

// The integers of one block, and the sums that are wanted of them.
static inline void quantise_block(const float* x, float inverse, int64_t block, const QuantisedRow& out) {
  const VF low = f_clamp127(f_mul(f_load(x), f_set(inverse)));
  const VF high = f_clamp127(f_mul(f_load(x + 16), f_set(inverse)));
  int8_t* const q8 = out.q8 + block * block_columns;
  if (out.turned) {
    f_store_i8(q8, f_add(f_round(low), f_set(128.0f)));  // the lowest 8 bits count
    f_store_i8(q8 + 16, f_add(f_round(high), f_set(128.0f)));
  } else {
    f_store_i8(q8, low);
    f_store_i8(q8 + 16, high);
  }
  if (!out.minus_sum && !out.minus_sum16 && !out.minus_scaled_sum && !out.sum && !out.sum16) return;
  const int32_t sum_low = i_sum(f_to_int(low)), sum_high = i_sum(f_to_int(high)), sum = sum_low + sum_high;
  if (out.minus_sum) out.minus_sum[block] = -sum;
  if (out.minus_scaled_sum) out.minus_scaled_sum[block] = out.scale[block] * static_cast<float>(-sum);
  if (out.sum) out.sum[block] = static_cast<int16_t>(sum);
  if (out.minus_sum16) {
    out.minus_sum16[2 * block] = -sum_low;
    out.minus_sum16[2 * block + 1] = -sum_high;
  }
  if (out.sum16) {
    out.sum16[2 * block] = static_cast<int16_t>(sum_low);
    out.sum16[2 * block + 1] = static_cast<int16_t>(sum_high);
  }
}

template <int blocks>
static inline void quantise_scales(const float* x, int64_t columns, const QuantisedRow& out) {
  constexpr int64_t width = blocks * block_columns;
  for (int64_t one = 0; one * width < columns; ++one) {
    const float* const values = x + one * width;
    VF most = f_abs(f_load(values));
    for (int64_t i = 16; i < width; i += 16) most = f_max(most, f_abs(f_load(values + i)));
    const float largest = f_largest(most);
    out.scale[one] = largest / 127.0f;
    const float inverse = largest > smallest_quantised ? 127.0f / largest : 0.0f;
    for (int64_t b = 0; b < blocks; ++b) quantise_block(values + b * block_columns, inverse, one * blocks + b, out);
  }
}

static void quantise(const float* x, int64_t columns, const QuantisedRow& out) { quantise_scales<1>(x, columns, out); }
static void quantise_wide(const float* x, int64_t columns, const QuantisedRow& out) {
  quantise_scales<super_blocks>(x, columns, out);
}

static void to_bf16(const float* x, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) f_store_bf16(out + i, f_load(x + i));
  if (i < count) {
    alignas(64) uint16_t lanes[16];
    f_store_bf16(lanes, f_load_part(x + i, count - i));
    for (int64_t j = 0; j < 16 && i + j < count; ++j) out[i + j] = lanes[j];
  }
}

static void rms_norm(const float* x, const float* gain, float eps, int64_t count, float* out) {
  VF squares = f_zero();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const VF a = f_load(x + i);
    squares = f_fma(a, a, squares);
  }
  if (i < count) {
    const VF a = f_load_part(x + i, count - i);
    squares = f_fma(a, a, squares);
  }
  const float mean = f_sum(squares) / static_cast<float>(count);
  const VF inverse = f_set(1.0f / __builtin_sqrtf(mean + eps));
  for (i = 0; i + 16 <= count; i += 16) f_store(out + i, f_mul(f_mul(f_load(x + i), inverse), f_load(gain + i)));
  if (i < count) {
    const VF a = f_mul(f_mul(f_load_part(x + i, count - i), inverse), f_load_part(gain + i, count - i));
    f_store_part(out + i, a, count - i);
  }
}

static void add(float* x, const float* y, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) f_store(x + i, f_add(f_load(x + i), f_load(y + i)));
  for (; i < count; ++i) x[i] += y[i];
}

static void scale_row(float* x, float factor, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) f_store(x + i, f_mul(f_load(x + i), f_set(factor)));
  for (; i < count; ++i) x[i] *= factor;
}

static void rope(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) {
    const VF a = f_load(x + i), b = f_load(x + half + i), c = f_load(cos + i), s = f_load(sin + i);
    f_store(x + i, f_sub(f_mul(a, c), f_mul(b, s)));
    f_store(x + half + i, f_add(f_mul(b, c), f_mul(a, s)));
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i], ac = a * cos[i], bs = b * sin[i], bc = b * cos[i], as = a * sin[i];
    x[i] = ac - bs;
    x[half + i] = bc + as;
  }
}

static void gated_gelu(const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const VF x = f_load(gate + i);
    // 0.5 x (1 + tanh(u)) = x / (1 + e^(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const VF cube = f_mul(f_mul(x, x), x);
    const VF u = f_mul(f_set(-2.0f * 0.7978845608028654f), f_fma(f_set(0.044715f), cube, x));
    f_store(out + i, f_mul(f_div(x, f_add(f_set(1.0f), f_exp(u))), f_load(up + i)));
  }
}

static void gated_silu(const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const VF x = f_load(gate + i);
    const VF sigmoid = f_div(x, f_add(f_set(1.0f), f_exp(f_sub(f_zero(), x))));
    f_store(out + i, f_mul(sigmoid, f_load(up + i)));
  }
}

static void softcap(float* x, float cap, int64_t count) {
  const VF inverse = f_set(1.0f / cap);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) f_store(x + i, f_mul(f_tanh(f_mul(f_load(x + i), inverse)), f_set(cap)));
  if (i < count) {
    const VF a = f_mul(f_tanh(f_mul(f_load_part(x + i, count - i), inverse)), f_set(cap));
    f_store_part(x + i, a, count - i);
  }
}

static void arg_max(const float* x, int64_t count, float* max, int64_t* index) {
  float best = -__builtin_inff();
  int64_t i = 0;
  if (count >= 16) {
    VF largest = f_load(x);
    for (i = 16; i + 16 <= count; i += 16) largest = f_max(largest, f_load(x + i));
    best = f_largest(largest);
  }
  for (; i < count; ++i) best = x[i] > best ? x[i] : best;
  *max = best;
  *index = 0;
  for (i = 0; i + 16 <= count; i += 16)
    if (const uint32_t equal = f_equal(f_load(x + i), best)) {
      *index = i + __builtin_ctz(equal);
      return;
    }
  for (; i < count; ++i)
    if (x[i] == best) {
      *index = i;
      return;
    }
}

static float largest_sum(const float* x, const std::byte* norms, float factor, int64_t count) {
  VF largest = f_set(-__builtin_inff());
  for (int64_t i = 0; i < count; i += 16)
    largest = f_max(largest, f_fma(f_from_half(norms + 2 * i), f_set(factor), f_load(x + i)));
  return f_largest(largest);
}

static float sum_exp(const float* x, float max, int64_t count) {
  VF sum = f_zero();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) sum = f_add(sum, f_exp(f_sub(f_load(x + i), f_set(max))));
  if (i < count) {
    const VF terms = f_exp(f_sub(f_load_part(x + i, count - i), f_set(max)));
    sum = f_add(sum, f_select((1u << (count - i)) - 1, terms, f_zero()));
  }
  return f_sum(sum);
}
