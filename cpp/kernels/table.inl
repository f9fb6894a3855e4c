// The table of one instruction set. Included inside its namespace, after everything else.
template <int... formats>
static void fill_matmul(Kernels& table, indices<formats...>) {
  ((table.matmul[formats] = &matmul_group<formats>), ...);
}

static Kernels make_table(const char* name, bool fast_bf16) {
  Kernels table{};
  table.name = name;
  table.fast_bf16 = fast_bf16;
  fill_matmul(table, indices<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>{});
#ifdef GEMCUT_PANELS
  table.panel_rows = 16;
#endif
  table.quantise = &quantise;
  table.quantise_wide = &quantise_wide;
  table.to_bf16 = &to_bf16;
  table.rms_norm = &rms_norm;
  table.add = &add;
  table.rope = &rope;
  table.scale = &scale_row;
  table.gated_gelu = &gated_gelu;
  table.gated_silu = &gated_silu;
  table.softcap = &softcap;
  table.arg_max = &arg_max;
  table.largest_sum = &largest_sum;
  table.sum_exp = &sum_exp;
  table.store_bf16 = &store_key_value<Bf16Cache>;
  table.store_f32 = &store_key_value<F32Cache>;
  table.attention_bf16 = &attention<Bf16Cache>;
  table.attention_f32 = &attention<F32Cache>;
  table.int8_burst = &int8_burst;
  return table;
}
