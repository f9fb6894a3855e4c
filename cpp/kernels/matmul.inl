// One group of 16 weight rows times up to matmul_rows inputs at a time, for every format. Included inside a namespace,
// after a simd header.

constexpr int matmul_rows = 8;  // inputs whose sums stay in registers
// With few inputs the weights come from memory, this far ahead of their use.
constexpr int prefetch_rows = 4;
constexpr int64_t prefetch_bytes = 4096;

// The codes of one block, two vectors at a time: calls use(vector index, codes) for 0, 4, 1, 5, 2, 6, 3, 7.
template <int bits, class Use>
static inline void unpack_block(const std::byte* block, Use&& use) {
  if constexpr (bits == 8) {
    for_each_index<8>([&](auto index) { use(index, b_load(block + 64 * index())); });
  } else {
    const VB nibble = b_set(0x0f);
    VB high0{}, high1{};
    if constexpr (bits >= 5) high0 = b_load(block + 256);
    if constexpr (bits == 6) high1 = b_load(block + 320);
    for_each_index<4>([&](auto index) {
      constexpr int j = index();
      const VB both = b_load(block + 64 * j);
      VB low = b_and(both, nibble), high = b_and(b_shift<-4>(both), nibble);
      if constexpr (bits == 5) {
        low = b_or_and(low, b_shift<4 - j>(high0), b_set(0x10));
        high = b_or_and(high, b_shift<-j>(high0), b_set(0x10));
      }
      if constexpr (bits == 6) {
        low = b_or_and(low, b_shift<4 - 2 * j>(high0), b_set(0x30));
        high = b_or_and(high, b_shift<4 - 2 * j>(high1), b_set(0x30));
      }
      use(index, low);
      use(constant<j + 4>{}, high);
    });
  }
}

// The same for format s8: upper 5 bits from `block`, lower 3 from `low`, or 4 in their place.
template <bool screen, class Use>
static inline void unpack_split_block(const std::byte* block, const std::byte* low, Use&& use) {
  const VB fifth = b_load(block + 256), nibble = b_set(0x78), top = b_set(0x80), pair = b_set(0x06), last = b_set(0x01);
  VB pairs0{}, pairs1{}, ones{};
  if constexpr (!screen) {
    pairs0 = b_load(low);
    pairs1 = b_load(low + 64);
    ones = b_load(low + 128);
  }
  for_each_index<4>([&](auto index) {
    constexpr int j = index();
    const VB both = b_load(block + 64 * j), start = b_set(screen ? 4 : 0);
    VB first = b_or_and(start, b_shift<3>(both), nibble), second = b_or_and(start, b_shift<-1>(both), nibble);
    first = b_or_and(first, b_shift<7 - j>(fifth), top);
    second = b_or_and(second, b_shift<3 - j>(fifth), top);
    if constexpr (!screen) {
      first = b_or_and(b_or_and(first, b_shift<1 - 2 * j>(pairs0), pair), b_shift<-j>(ones), last);
      second = b_or_and(b_or_and(second, b_shift<1 - 2 * j>(pairs1), pair), b_shift<-j - 4>(ones), last);
    }
    use(index, first);
    use(constant<j + 4>{}, second);
  });
}

// Scale of part `part` of block `block` of a chunk, for each of the 16 rows.
template <int format>
static inline VF load_scale(const std::byte* scales, const std::byte* supers, int64_t block, int part) {
  constexpr FormatTraits traits = format_traits[format];
  if constexpr (!traits.two_level) return f_from_half(scales + block * 32);
  constexpr int parts = block_columns / traits.scale_columns;
  const std::byte* small = scales + (block * parts + part) * group_rows;
  return f_mul(f_from_half(supers), traits.has_minimum ? f_from_u8(small) : f_from_i8(small));
}

// Takes a super-block's minima times the sums of its inputs from `sum`: pair(i) is the i-th pair of minima.
template <int parts, int rows, class Pair>
static inline void subtract_minima(const Inputs& in, int64_t row, int64_t block, VF minimum, Pair&& pair, VF* sum) {
  const int16_t* const x = (parts == 2 ? in.sum16 : in.sum) + (row * in.blocks + block) * parts;
  VI whole[rows];
  for (int t = 0; t < rows; ++t) whole[t] = i_set(0);
  for (int i = 0; i < static_cast<int>(super_blocks) * parts / 2; ++i) {
    const auto minima = pair(i);
    for (int t = 0; t < rows; ++t) whole[t] = i_dot2(whole[t], minima, x + t * in.blocks * parts + 2 * i);
  }
  const VF negative = f_sub(f_zero(), minimum);
  for (int t = 0; t < rows; ++t) sum[t] = f_fma(f_from_int(whole[t]), negative, sum[t]);
}

template <int format>
static inline VI dot4(VI acc, VB codes, const int8_t* x) {
#ifdef GEMCUT_DOT4_LOW
  if constexpr (format_traits[format].bits < 8 && format_traits[format].offset_shift < 7) return i_dot4_low(acc, codes, x);
#endif
  return i_dot4(acc, codes, x);
}

// The integers that a block's sums start from: what the codes' offset takes from each input's sum.
template <int format, int rows>
static inline void start_block(const int32_t* minus, int64_t stride, VI* whole) {
  constexpr FormatTraits traits = format_traits[format];
  constexpr int parts = block_columns / traits.scale_columns;
  for (int part = 0; part < parts; ++part)
    for (int t = 0; t < rows; ++t) {
      if constexpr (traits.offset_shift >= 0)
        whole[part * rows + t] = i_shift_left<traits.offset_shift>(i_set(minus[t * stride + part]));
      else
        whole[part * rows + t] = i_set(0);
    }
}

// Lines of scales and minima before a chunk's codes.
template <int format>
constexpr int scale_lines = static_cast<int>(group_geometry(static_cast<Format>(format), 256).codes / 64);

template <int lines>
static inline void fetch_ahead(const std::byte* here, const std::byte* group_end, const std::byte* next) {
  const int64_t left = group_end - here;
  const std::byte* ahead = left > prefetch_bytes ? here + prefetch_bytes : next + (prefetch_bytes - left);
  for_each_index<lines>([&](auto line) { b_prefetch(ahead + 64 * line()); });
}

// Adds blocks [first, end) of `rows` inputs, the first of which is row `row`. With wide scales a super-block's sum is
// made in weights times integers, and scaled once.
template <int format, int rows>
static inline void matmul_quantised_tile(const MatmulArgs& args, int64_t row, float* out) {
  constexpr FormatTraits traits = format_traits[format];
  constexpr int parts = block_columns / traits.scale_columns;
  constexpr bool wide = traits.two_level;
  const GroupGeometry& geometry = *args.geometry;
  const Inputs& in = args.inputs;
  const float* const scale = in.scale + row * in.scales;
  const int32_t* const minus = (parts == 2 ? in.minus_sum16 : in.minus_sum) + row * in.blocks * parts;
  VF sum[rows], part_sum[rows];
  for (int t = 0; t < rows; ++t) sum[t] = args.first_block ? f_load(out + t * args.out_stride) : f_zero();
  for (int t = 0; t < rows; ++t) part_sum[t] = f_zero();
  const int64_t mask = geometry.chunk_blocks - 1;
  const std::byte* const group_end = args.group + geometry.bytes;
  // Without a next group the last lines are asked for again, which costs nothing.
  const std::byte* const next = args.next ? args.next : group_end - prefetch_bytes - 64 * traits.bits;
  const std::byte *chunk = nullptr, *codes = nullptr;  // every tile begins with a chunk
  for (int64_t block = args.first_block; block < args.end_block; ++block, codes += geometry.block_bytes) {
    const int64_t in_chunk = block & mask;
    if (in_chunk == 0) {
      chunk = args.group + geometry.chunk_of(block);
      codes = chunk + geometry.codes;
      if constexpr (rows <= prefetch_rows) fetch_ahead<scale_lines<format>>(chunk, group_end, next);
    }
    if constexpr (rows <= prefetch_rows) fetch_ahead<traits.bits>(codes, group_end, next);
    VI whole[parts][rows];
    start_block<format, rows>(minus + block * parts, in.blocks * parts, &whole[0][0]);
    const int8_t* const x = in.q8 + row * in.stride + block * block_columns;
    const auto multiply = [&](auto index, VB vector) {
      constexpr int j = index();
      constexpr int part = parts == 2 ? j / 4 : 0;
      for (int t = 0; t < rows; ++t)
        whole[part][t] = dot4<format>(whole[part][t], vector, x + t * in.stride + 4 * j);
    };
    if constexpr (format == static_cast<int>(Format::s8) || format == static_cast<int>(Format::s8_screen))
      unpack_split_block<format == static_cast<int>(Format::s8_screen)>(codes, args.low + block * low_block_bytes, multiply);
    else
      unpack_block<traits.bits>(codes, multiply);
    for (int part = 0; part < parts; ++part) {
      const VF weight = load_scale<format>(chunk, chunk + geometry.supers, in_chunk, part);
      for (int t = 0; t < rows; ++t) {
        if constexpr (wide) part_sum[t] = f_fma(f_from_int(whole[part][t]), weight, part_sum[t]);
        else sum[t] = f_fma(f_from_int(whole[part][t]), f_mul(weight, f_set(scale[t * in.scales + block])), sum[t]);
      }
    }
    if constexpr (wide) {
      if (in_chunk != mask) continue;
      if constexpr (traits.has_minimum)
        subtract_minima<parts, rows>(in, row, block - mask, f_from_half(chunk + geometry.super_minima),
                                     [&](int pair) { return i_pairs(chunk + geometry.minima + 32 * pair); }, part_sum);
      for (int t = 0; t < rows; ++t) {
        sum[t] = f_fma(part_sum[t], f_set(scale[t * in.scales + block / super_blocks]), sum[t]);
        part_sum[t] = f_zero();
      }
    } else if constexpr (traits.has_minimum) {
      const VF minimum = f_from_half(chunk + geometry.minima + in_chunk * 32);
      for (int t = 0; t < rows; ++t)
        sum[t] = f_fma(minimum, f_set(in.minus_scaled_sum[(row + t) * in.blocks + block]), sum[t]);
    }
  }
  for (int t = 0; t < rows; ++t) f_store(out + t * args.out_stride, sum[t]);
}

template <int format, int rows>
static inline void matmul_float_tile(const MatmulArgs& args, int64_t row, float* out) {
  const Inputs& in = args.inputs;
  const int64_t begin = args.first_block * block_columns;
  const int64_t limit = args.end_block * block_columns;
  const int64_t end = limit < args.columns ? limit : args.columns;
  VF sum[rows];
  for (int t = 0; t < rows; ++t) sum[t] = args.first_block ? f_load(out + t * args.out_stride) : f_zero();
  if constexpr (format == static_cast<int>(Format::bf16)) {
    const uint16_t* const x = in.bf16 + row * in.stride;
    for (int64_t column = begin; column < end; column += 2) {
      const VP weights = p_load(args.group + column / 2 * 64);
      for (int t = 0; t < rows; ++t) sum[t] = p_dot(sum[t], weights, p_set(x + t * in.stride + column));
    }
  } else {
    const float* const x = in.f32 + row * in.stride;
    for (int64_t column = begin; column < end; ++column) {
      VF weights;
      if constexpr (format == static_cast<int>(Format::f16)) weights = f_from_half(args.group + column * 32);
      else weights = f_load(reinterpret_cast<const float*>(args.group + column * 64));
      for (int t = 0; t < rows; ++t) sum[t] = f_fma(weights, f_set(x[t * in.stride + column]), sum[t]);
    }
  }
  for (int t = 0; t < rows; ++t) f_store(out + t * args.out_stride, sum[t]);
}

template <int format, int rows>
static inline void matmul_tile(const MatmulArgs& args, int64_t row, float* out) {
  if constexpr (format_traits[format].bits == 0) matmul_float_tile<format, rows>(args, row, out);
  else matmul_quantised_tile<format, rows>(args, row, out);
}

#ifdef GEMCUT_PANELS
#include "kernels/panel.inl"
#endif

template <int format>
static void matmul_group(const MatmulArgs& args) {
#ifdef GEMCUT_PANELS
  if constexpr (format_traits[format].bits != 0 && format != static_cast<int>(Format::s8_screen))
    if (args.inputs.turned) return matmul_panel<format>(args);
#endif
  int64_t done = 0;
  auto take = [&](auto rows) {
    matmul_tile<format, rows()>(args, args.first_row + done, args.out + done * args.out_stride);
    done += rows();
  };
#ifdef GEMCUT_FEW_TILES
  // Plain C++ gains little from large tiles, and its compiler takes minutes over them.
  while (args.num_rows - done >= 4) take(constant<4>{});
  while (args.num_rows > done) take(constant<1>{});
#else
  while (args.num_rows - done >= matmul_rows) take(constant<matmul_rows>{});
  switch (args.num_rows - done) {
    case 7: take(constant<7>{}); break;
    case 6: take(constant<6>{}); break;
    case 5: take(constant<5>{}); break;
    case 4: take(constant<4>{}); break;
    case 3: take(constant<3>{}); break;
    case 2: take(constant<2>{}); break;
    case 1: take(constant<1>{}); break;
    default: break;
  }
#endif
}

static int64_t int8_burst(int64_t rounds) {
  constexpr int chains = 12;
  VI sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = i_set(i);
  const VB codes = b_set(3);
  const int8_t x[4] = {1, -2, 3, -4};
  for (int64_t round = 0; round < rounds; ++round)
    for (int i = 0; i < chains; ++i) sums[i] = i_dot4(sums[i], codes, x);
  VI total = sums[0];
  for (int i = 1; i < chains; ++i) total = i_add(total, sums[i]);
  volatile int32_t keep = i_sum(total);
  return keep == 1 ? 1 : rounds * chains * 64;
}
