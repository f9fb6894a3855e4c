// Products of many inputs: a group's weights are unpacked once into a panel of signed bytes, and every tile of inputs
// multiplies that. Inputs are unsigned bytes (turned), so what that adds to a block's sum, 128 times its weights, is the
// same for all inputs and lies in the panel. All integers, and the order of the floats, are those of matmul.inl.
// Included inside a namespace, after matmul.inl's formats and sums.

template <int format>
static inline void unpack_panel(const MatmulArgs& args, Panel& panel) {
  constexpr FormatTraits traits = format_traits[format];
  constexpr int parts = block_columns / traits.scale_columns, pairs = super_blocks * parts / 2;
  const GroupGeometry& geometry = *args.geometry;
  const VB offset = b_set(traits.offset_shift < 0 ? 0 : 1 << (traits.offset_shift & 7));
  for (int64_t block = args.first_block; block < args.end_block; ++block) {
    const int64_t n = block - args.first_block, in_chunk = block & (geometry.chunk_blocks - 1);
    const std::byte* chunk = args.group + geometry.chunk_of(block);
    const std::byte* codes = chunk + geometry.codes + in_chunk * geometry.block_bytes;
    VI total[2] = {i_set(0), i_set(0)};
    const auto keep = [&](auto index, VB vector) {
      constexpr int j = index();
      if constexpr (traits.offset_shift >= 0) vector = b_sub(vector, offset);
      b_store(panel.codes[n][j], vector);
      total[j / 4] = i_add_bytes(total[j / 4], vector);
    };
    if constexpr (format == static_cast<int>(Format::s8))
      unpack_split_block<false>(codes, args.low + block * low_block_bytes, keep);
    else
      unpack_block<traits.bits>(codes, keep);
    if constexpr (parts == 1) total[0] = i_add(total[0], total[1]);
    for (int part = 0; part < parts; ++part) {
      i_store(panel.start[n * parts + part], i_negate(i_shift_left<7>(total[part])));
      f_store(panel.scale[n * parts + part], load_scale<format>(chunk, chunk + geometry.supers, in_chunk, part));
    }
    if constexpr (traits.has_minimum && !traits.two_level)
      f_store(panel.minimum[n], f_from_half(chunk + geometry.minima + in_chunk * 32));
    if constexpr (traits.has_minimum && traits.two_level) {
      if (in_chunk) continue;
      for (int pair = 0; pair < pairs; ++pair)
        i_store(panel.pairs[n / super_blocks * pairs + pair], i_pairs(chunk + geometry.minima + 32 * pair));
      f_store(panel.minimum[n / super_blocks], f_from_half(chunk + geometry.super_minima));
    }
  }
}

// The same place in each of up to 8 rows, in 4 registers. Left alone, compilers keep a pointer to every row, run out of
// registers and spend a vector instruction on each that they put away.
template <class T, int rows>
struct RowPointers {
  RowPointers(const T* first, int64_t elements)
      : base{first, first + 4 * elements}, stride(elements), three_strides(3 * elements) {}
  void advance(int64_t elements) {
    base[0] += elements;
    if constexpr (rows > 4) base[1] += elements;
    asm("" : "+r"(base[0]), "+r"(base[1]), "+r"(stride), "+r"(three_strides));
  }
  const T* row(int t) const { return base[t / 4] + (t % 4 == 3 ? three_strides : t % 4 * stride); }

  const T* base[2];
  int64_t stride, three_strides;
};

template <bool wide, int parts, bool has_minimum, int rows>
static inline void multiply_panel(const Panel& panel, const MatmulArgs& args, int64_t row, float* out) {
  const Inputs& in = args.inputs;
  const int64_t blocks = args.end_block - args.first_block;
  RowPointers<int8_t, rows> x(in.q8 + row * in.stride + args.first_block * block_columns, in.stride);
  RowPointers<float, rows> scale(in.scale + row * in.scales + args.first_block / (wide ? super_blocks : 1), in.scales);
  VF sum[rows], part_sum[rows];
  for (int t = 0; t < rows; ++t) {
    sum[t] = args.first_block ? f_load(out + t * args.out_stride) : f_zero();
    part_sum[t] = f_zero();
  }
  for (int64_t n = 0; n < blocks; ++n, x.advance(block_columns)) {
    for_each_index<parts>([&](auto which) {
      constexpr int part = which();
      VI whole[rows];
      for (int t = 0; t < rows; ++t) whole[t] = i_load(panel.start[n * parts + part]);
      for_each_index<8 / parts>([&](auto index) {
        constexpr int j = part * (8 / parts) + index();
        const VB codes = b_load(panel.codes[n][j]);
        for (int t = 0; t < rows; ++t) whole[t] = i_dot4_turned(whole[t], codes, x.row(t) + 4 * j);
      });
      const VF weight = f_load(panel.scale[n * parts + part]);
      for (int t = 0; t < rows; ++t) {
        if constexpr (wide) part_sum[t] = f_fma(f_from_int(whole[t]), weight, part_sum[t]);
        else sum[t] = f_fma(f_from_int(whole[t]), f_mul(weight, f_set(*scale.row(t))), sum[t]);
      }
      if constexpr (!wide) scale.advance(1);
    });
    if constexpr (wide) {
      if (n % super_blocks != super_blocks - 1) continue;
      const int64_t super = n / super_blocks, block = args.first_block + n - (super_blocks - 1);
      constexpr int pairs = super_blocks * parts / 2;
      if constexpr (has_minimum)
        subtract_minima<parts, rows>(in, row, block, f_load(panel.minimum[super]),
                                     [&](int pair) { return i_load(panel.pairs[super * pairs + pair]); }, part_sum);
      for (int t = 0; t < rows; ++t) {
        sum[t] = f_fma(part_sum[t], f_set(*scale.row(t)), sum[t]);
        part_sum[t] = f_zero();
      }
      scale.advance(1);
    } else if constexpr (has_minimum) {
      const VF minimum = f_load(panel.minimum[n]);
      const float* const scaled = in.minus_scaled_sum + row * in.blocks + args.first_block + n;
      for (int t = 0; t < rows; ++t) sum[t] = f_fma(minimum, f_set(scaled[t * in.blocks]), sum[t]);
    }
  }
  for (int t = 0; t < rows; ++t) f_store(out + t * args.out_stride, sum[t]);
}

template <bool wide, int parts, bool has_minimum>
static void multiply_panel_rows(const Panel& panel, const MatmulArgs& args) {
  int64_t done = 0;
  const auto take = [&](auto rows) {
    for (; args.num_rows - done >= rows(); done += rows())
      multiply_panel<wide, parts, has_minimum, rows()>(panel, args, args.first_row + done, args.out + done * args.out_stride);
  };
  take(constant<matmul_rows>{});
  take(constant<4>{});
  take(constant<2>{});
  take(constant<1>{});
}

template <int format>
static void matmul_panel(const MatmulArgs& args) {
  constexpr FormatTraits traits = format_traits[format];
  unpack_panel<format>(args, *args.panel);
  multiply_panel_rows<traits.two_level, block_columns / traits.scale_columns, traits.has_minimum>(*args.panel, args);
}
