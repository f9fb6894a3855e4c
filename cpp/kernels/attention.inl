// Attention of a few query rows over one KV head, block of keys by block of keys. Included inside a namespace.
//
// A row's arithmetic depends on absolute key positions only: blocks of attention_block keys, aligned, in ascending
// order, each with its own maximum; a block a row cannot see leaves its state as it is.

struct Bf16Cache {
  static constexpr int step = 2;  // head elements, or keys, one instruction takes
  static constexpr int64_t bytes = 2;
  using V = VP;
  using Element = uint16_t;
  static V load(const std::byte* p) { return p_load(p); }
  static V set(const Element* p) { return p_set(p); }
  static VF dot(VF sum, V a, V b) { return p_dot(sum, a, b); }
  static void convert(const float* x, int64_t count, Element* out) { to_bf16(x, count, out); }
};
struct F32Cache {
  static constexpr int step = 1;
  static constexpr int64_t bytes = 4;
  using V = VF;
  using Element = float;
  static V load(const std::byte* p) { return f_load(reinterpret_cast<const float*>(p)); }
  static V set(const Element* p) { return f_set(*p); }
  static VF dot(VF sum, V a, V b) { return f_fma(a, b, sum); }
  static void convert(const float* x, int64_t count, Element* out) { __builtin_memcpy(out, x, count * 4); }
};

template <class Cache>
static void store_key_value(const float* key, const float* value, int64_t head_dim, int64_t slot, std::byte* keys,
                            std::byte* values) {
  using Element = typename Cache::Element;
  constexpr int step = Cache::step;
  const int64_t tile = slot / 16 * 16 * head_dim, lane = slot % 16;
  Element* k = reinterpret_cast<Element*>(keys) + tile + lane * step;
  Element* v = reinterpret_cast<Element*>(values) + tile + lane / step * head_dim * step + lane % step;
  Element row[16];
  for (int64_t begin = 0; begin < head_dim; begin += 16) {
    const int64_t count = head_dim - begin < 16 ? head_dim - begin : 16;
    Cache::convert(key + begin, count, row);
    for (int64_t i = 0; i < count; ++i) k[(begin + i) / step * 16 * step + (begin + i) % step] = row[i];
    Cache::convert(value + begin, count, row);
    for (int64_t i = 0; i < count; ++i) v[(begin + i) * step] = row[i];
  }
}

// What a call keeps while it walks over the keys.
template <class Cache>
struct AttentionState {
  typename Cache::Element* queries;   // (rows, H) in the cache's type
  float* outputs;                     // (rows, H) weighted sums so far
  float* scores;                      // (rows, attention_block)
  typename Cache::Element* weights;   // (rows, attention_block)
  float largest[attention_rows], total[attention_rows];
  int64_t width;                      // H rounded up to 16
};

// Scores of `tiles` tiles of 16 keys for `rows` rows; enough sums side by side to hide the latency of one.
template <class Cache, int rows, int tiles>
static inline void score_tiles(const AttentionState<Cache>& state, int64_t first_row, const std::byte* keys,
                               int64_t head_dim, float* scores) {
  constexpr int step = Cache::step;
  const int64_t tile_bytes = 16 * head_dim * Cache::bytes;
  VF sums[rows][tiles];
  for (int r = 0; r < rows; ++r)
    for (int tile = 0; tile < tiles; ++tile) sums[r][tile] = f_zero();
  const auto* queries = state.queries + first_row * state.width;
  for (int64_t h = 0; h < head_dim; h += step, keys += 64) {
    typename Cache::V loaded[tiles];
    for (int tile = 0; tile < tiles; ++tile) loaded[tile] = Cache::load(keys + tile * tile_bytes);
    for (int r = 0; r < rows; ++r) {
      const auto query = Cache::set(queries + r * state.width + h);
      for (int tile = 0; tile < tiles; ++tile) sums[r][tile] = Cache::dot(sums[r][tile], loaded[tile], query);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int tile = 0; tile < tiles; ++tile) f_store(scores + r * attention_block + tile * 16, sums[r][tile]);
}

// Adds one block's weighted values to `rows` rows; the columns of V four vectors (or one) at a time.
template <class Cache, int rows, int vectors>
static inline void add_values(const AttentionState<Cache>& state, const AttentionArgs& args, int64_t first_row,
                              const std::byte* block_values, int64_t column, const float* rescale, int64_t tiles) {
  constexpr int step = Cache::step;
  VF sums[rows][vectors];
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v)
      sums[r][v] = f_mul(f_load(state.outputs + (first_row + r) * state.width + column + 16 * v),
                         f_set(rescale[first_row + r]));
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const std::byte* values = block_values + (tile * 16 * args.head_dim + column * step) * Cache::bytes;
    for (int64_t key = 0; key < 16; key += step, values += args.head_dim * step * Cache::bytes) {
      typename Cache::V loaded[vectors];
      for (int v = 0; v < vectors; ++v) loaded[v] = Cache::load(values + 64 * v);
      for (int r = 0; r < rows; ++r) {
        const auto weight = Cache::set(state.weights + (first_row + r) * attention_block + tile * 16 + key);
        for (int v = 0; v < vectors; ++v) sums[r][v] = Cache::dot(sums[r][v], loaded[v], weight);
      }
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v)
      f_store(state.outputs + (first_row + r) * state.width + column + 16 * v, sums[r][v]);
}

// The last columns of a head width that is no multiple of 16, one by one.
template <class Cache>
static inline void add_value_columns(const AttentionState<Cache>& state, const AttentionArgs& args, int64_t row,
                                     const std::byte* block_values, int64_t column, float rescale, int64_t tiles) {
  constexpr int step = Cache::step;
  using Element = typename Cache::Element;
  for (; column < args.head_dim; ++column) {
    float sum = state.outputs[row * state.width + column] * rescale;
    for (int64_t key = 0; key < tiles * 16; ++key) {
      const Element* tile = reinterpret_cast<const Element*>(block_values) + key / 16 * 16 * args.head_dim;
      const Element value = tile[key % 16 / step * args.head_dim * step + column * step + key % step];
      const Element weight = state.weights[row * attention_block + key];
      if constexpr (step == 2) {
        uint32_t bits[2] = {static_cast<uint32_t>(value) << 16, static_cast<uint32_t>(weight) << 16};
        float factors[2];
        __builtin_memcpy(factors, bits, 8);
        sum += factors[0] * factors[1];
      } else {
        sum += value * weight;
      }
    }
    state.outputs[row * state.width + column] = sum;
  }
}

// Masks, caps and exponentiates one row's scores of one block. Returns what its sums so far are multiplied by.
template <class Cache>
static inline float weigh_block(AttentionState<Cache>& state, const AttentionArgs& args, int64_t row, int64_t block) {
  float* scores = state.scores + row * attention_block;
  const int64_t last = args.positions[row] - block;  // in the block
  const int64_t first = args.window ? args.positions[row] - args.window + 1 - block : 0;
  if (args.softcap > 0.0f) softcap(scores, args.softcap, attention_block);
  VF largest = f_set(-__builtin_inff());
  for (int64_t i = 0; i < attention_block; i += 16) {
    uint32_t mask = 0xffff;
    if (last < i + 15) mask = last < i ? 0 : mask >> (15 - (last - i));
    if (first > i) mask = first > i + 15 ? 0 : mask & (0xffffu << (first - i));
    const VF kept = f_select(mask, f_load(scores + i), f_set(-__builtin_inff()));
    f_store(scores + i, kept);
    largest = f_max(largest, kept);
  }
  const float block_largest = f_largest(largest);
  if (block_largest == -__builtin_inff()) {
    for (int64_t i = 0; i < attention_block; ++i) state.weights[row * attention_block + i] = 0;
    return 1.0f;
  }
  const float before = state.largest[row];
  const float now = block_largest > before ? block_largest : before;
  state.largest[row] = now;
  VF total = f_zero();
  for (int64_t i = 0; i < attention_block; i += 16) {
    const VF scored = f_load(scores + i);
    uint32_t mask = f_equal(scored, -__builtin_inff());
    const VF weight = f_select(mask, f_zero(), f_exp(f_sub(f_max(scored, f_set(-3e38f)), f_set(now))));
    f_store(scores + i, weight);
    total = f_add(total, weight);
  }
  Cache::convert(scores, attention_block, state.weights + row * attention_block);
  float rescale = 0.0f;
  if (before != -__builtin_inff() && before != now) {
    alignas(64) float lanes[16];
    f_store(lanes, f_exp(f_set(before - now)));
    rescale = lanes[0];
  } else if (before == now) {
    rescale = 1.0f;
  }
  state.total[row] = state.total[row] * rescale + f_sum(total);
  return rescale;
}

template <class Cache, int rows>
static void attend_rows(AttentionState<Cache>& state, const AttentionArgs& args, int64_t first_row) {
  int64_t begin = args.positions[first_row], end = 0;
  for (int64_t r = first_row; r < first_row + rows; ++r) {
    const int64_t low = args.window ? args.positions[r] - args.window + 1 : 0;
    begin = low < begin ? low : begin;
    end = args.positions[r] + 1 > end ? args.positions[r] + 1 : end;
  }
  begin = begin < 0 ? 0 : begin / attention_block * attention_block;
  float rescale[attention_rows];
  for (int64_t block = begin; block < end; block += attention_block) {
    const int64_t left = (end - block + 15) / 16;
    const int64_t tiles = left < attention_block / 16 ? left : attention_block / 16;
    // A block's slots follow each other: the ring is a multiple of it long.
    const bool is_shared = block < args.num_shared;
    const int64_t slot = is_shared ? block : (block - args.num_shared) % args.num_slots;
    const std::byte* const keys = (is_shared ? args.shared_keys : args.keys) + slot * args.head_dim * Cache::bytes;
    const std::byte* const values = (is_shared ? args.shared_values : args.values) + slot * args.head_dim * Cache::bytes;
    float* const scores = state.scores + first_row * attention_block;
    const int64_t tile_bytes = 16 * args.head_dim * Cache::bytes;
    if (tiles == attention_block / 16) {
      score_tiles<Cache, rows, attention_block / 16>(state, first_row, keys, args.head_dim, scores);
    } else {
      for (int64_t tile = 0; tile < attention_block / 16; ++tile) {
        if (tile < tiles) {
          score_tiles<Cache, rows, 1>(state, first_row, keys + tile * tile_bytes, args.head_dim, scores + tile * 16);
        } else {
          for (int r = 0; r < rows; ++r) f_store(scores + r * attention_block + tile * 16, f_zero());
        }
      }
    }
    for (int64_t r = first_row; r < first_row + rows; ++r) rescale[r] = weigh_block(state, args, r, block);
    int64_t column = 0;
    for (; column + 64 <= args.head_dim; column += 64)
      add_values<Cache, rows, 4>(state, args, first_row, values, column, rescale, tiles);
    for (; column + 16 <= args.head_dim; column += 16)
      add_values<Cache, rows, 1>(state, args, first_row, values, column, rescale, tiles);
    for (int64_t r = first_row; column < args.head_dim && r < first_row + rows; ++r)
      add_value_columns(state, args, r, values, column, rescale[r], tiles);
  }
}

template <class Cache>
static void attention(const AttentionArgs& args) {
  AttentionState<Cache> state;
  state.width = (args.head_dim + 15) / 16 * 16;
  state.outputs = args.scratch;
  state.scores = state.outputs + attention_rows * state.width;
  state.queries = reinterpret_cast<typename Cache::Element*>(state.scores + attention_rows * attention_block);
  state.weights = state.queries + attention_rows * state.width;
  for (int64_t r = 0; r < args.num_rows; ++r) {
    Cache::convert(args.queries[r], args.head_dim, state.queries + r * state.width);
    for (int64_t h = 0; h < state.width; ++h) state.outputs[r * state.width + h] = 0.0f;
    state.largest[r] = -__builtin_inff();
    state.total[r] = 0.0f;
  }
  int64_t row = 0;
  for (; row + 4 <= args.num_rows; row += 4) attend_rows<Cache, 4>(state, args, row);
  for (; row + 2 <= args.num_rows; row += 2) attend_rows<Cache, 2>(state, args, row);
  for (; row < args.num_rows; ++row) attend_rows<Cache, 1>(state, args, row);
  for (int64_t r = 0; r < args.num_rows; ++r) {
    const float inverse = 1.0f / state.total[r];
    for (int64_t h = 0; h < args.head_dim; ++h) args.outputs[r][h] = state.outputs[r * state.width + h] * inverse;
  }
}
