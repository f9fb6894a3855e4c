// Rows into blocks: `lanes` rows at a time, a lane each. Included inside a namespace, last.

static inline void encode_block(BlockType type, const Target& target) {
  switch (type) {
    case BlockType::q4_0: return encode_symmetric<4, true>(target);
    case BlockType::q5_0: return encode_symmetric<5, true>(target);
    case BlockType::q8_0: return encode_symmetric<8, false>(target);
    case BlockType::q4_1: return encode_affine<4>(target);
    case BlockType::q5_1: return encode_affine<5>(target);
    case BlockType::q2_k: return encode_affine_super<16, 3, 15, PackQ2K>(target);
    case BlockType::q4_k: return encode_affine_super<32, 15, 63, PackQ4K>(target);
    case BlockType::q5_k: return encode_affine_super<32, 31, 63, PackQ5K>(target);
    case BlockType::q3_k: return encode_symmetric_super<PackQ3K>(target, {-4, 3}, -32, {0.6f, 1.5f, 8, true});
    case BlockType::q6_k: return encode_symmetric_super<PackQ6K>(target, {-32, 31}, -128, {0.78f, 1.1f, 2, true});
  }
}

// Rows beyond the last are copies of it, and not stored.
static void encode(BlockType type, const float* x, int64_t num_rows, int64_t columns, const float* weights, uint8_t* out) {
  const BlockSize size = block_size(type);
  const int64_t row_bytes = columns / size.values * size.bytes;
  VF values[256];
  for (int64_t row = 0; row < num_rows; row += lanes) {
    const int some = num_rows - row < lanes ? static_cast<int>(num_rows - row) : lanes;
    for (int64_t block = 0; block * size.values < columns; ++block) {
      for (int lane = 0; lane < lanes; ++lane) {
        const float* source = x + (row + (lane < some ? lane : some - 1)) * columns + block * size.values;
        for (int i = 0; i < size.values; ++i) reinterpret_cast<float*>(values)[i * lanes + lane] = source[i];
      }
      encode_block(type, {values, weights + block * size.values, out + row * row_bytes + block * size.bytes, row_bytes, some});
    }
  }
}
