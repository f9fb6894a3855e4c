// Blocks of 32 weights with scales of their own: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Included inside a namespace.

// One block of `lanes` rows: weights x, their importances w; row r's block goes to out + r * stride.
struct Target {
  const VF* x;
  const float* w;
  uint8_t* out;
  int64_t stride;
  int num_rows;
};

static inline void store_code(int8_t* codes, int index, VF code) {
  const VB bytes = __builtin_convertvector(__builtin_convertvector(code, VI), VB);
  __builtin_memcpy(codes + index * lanes, &bytes, lanes);
}

template <int bits, bool two_signs>
static inline void encode_symmetric(const Target& target) {
  constexpr Symmetric range = {two_signs ? -(1 << (bits - 1)) : 1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1};
  constexpr Sweep sweep = bits == 4 ? Sweep{0.69f, 1.4f, 8, true} : bits == 5 ? Sweep{0.7f, 1.3f, 5, true} : Sweep{0.9f, 1.02f, 4, false};
  const VF scale = search_symmetric<32>(target.x, target.w, range, sweep, f_to_half_grid).scale;
  const VF inverse = f_inverse(scale);
  int8_t codes[32 * lanes];
  for (int i = 0; i < 32; ++i) store_code(codes, i, code_of(target.x[i], inverse, range) - (two_signs ? range.low : 0));
  for (int row = 0; row < target.num_rows; ++row) {
    uint8_t* out = target.out + row * target.stride;
    const Codes of_row = {codes + row};
    store_half(out, scale[row]);
    if constexpr (bits == 5) pack_fifth_bits(of_row, out + 2);
    if constexpr (bits == 8)
      for (int i = 0; i < 32; ++i) out[2 + i] = of_row[i];
    else
      pack_nibbles(of_row, out + (bits == 5 ? 6 : 2));
  }
}

template <int levels>
static inline Affine on_half_grid(const VF* x, const float* w) {
  const Affine wish = search_affine<32, levels, false>(x, w);
  Affine best = {};
  best.error = f_set(__builtin_inff());
  const auto consider = [&](VF scale, VF minimum) {
    scale = f_to_half_grid(scale);
    minimum = f_to_half_grid(minimum);
    const VF error = affine_error<32, levels>(x, w, scale, minimum);
    const VI better = error < best.error;
    f_keep(better, &best.scale, scale);
    f_keep(better, &best.minimum, minimum);
    f_keep(better, &best.error, error);
  };
  const Shifted<32> group(x, w, false);
  consider(group.range / float(levels), group.base);
  // Where the outermost codes are not used, the same values may have a minimum some steps away, and one of these may be
  // a float16.
  const VF step = f_to_half_grid(wish.scale);
  for (int i = -levels / 4; i <= levels / 4; ++i) consider(step, wish.minimum - float(i) * step);
  return best;
}

template <int bits>
static inline void encode_affine(const Target& target) {
  constexpr int levels = (1 << bits) - 1;
  const Affine chosen = on_half_grid<levels>(target.x, target.w);
  const VF inverse = f_inverse(chosen.scale);
  int8_t codes[32 * lanes];
  for (int i = 0; i < 32; ++i)
    store_code(codes, i, f_round(f_clamp((target.x[i] - chosen.minimum) * inverse, 0, levels)));
  for (int row = 0; row < target.num_rows; ++row) {
    uint8_t* out = target.out + row * target.stride;
    const Codes of_row = {codes + row};
    store_half(out, chosen.scale[row]);
    store_half(out + 2, chosen.minimum[row]);
    if constexpr (bits == 5) pack_fifth_bits(of_row, out + 4);
    pack_nibbles(of_row, out + (bits == 5 ? 8 : 4));
  }
}
