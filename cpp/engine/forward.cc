#include "engine/forward.h"

#include <algorithm>
#include <cmath>

#include "engine/packing.h"

namespace gemcut {
namespace {

constexpr int64_t kinds = 2;               // of layers: sliding, full
constexpr int64_t ffn_rows = 256;          // rows of one tile of the feed-forward: unpacking weights costs them little
constexpr int64_t ffn_columns = 32;        // of gate and up computed at once
constexpr int64_t serial_rows = 2;         // whose work costs less than a barrier
constexpr int64_t product_bytes = 20'000;  // weights of one item, so that claiming it costs little beside reading it
constexpr int64_t cached_blocks = panel_blocks;  // columns / 32 whose weights and inputs stay in the first-level cache
constexpr int64_t few_rows = 8;            // for which weights are read from memory once, in one piece

int64_t round16(int64_t value) { return (value + 15) / 16 * 16; }

int64_t groups_per_item(const PackedMatrix& matrix) {
  return std::max<int64_t>(1, product_bytes / matrix.geometry.bytes);
}

int64_t num_items(const PackedMatrix& matrix) {
  return (matrix.num_groups() + groups_per_item(matrix) - 1) / groups_per_item(matrix);
}

std::vector<Format> formats_of(const Weights& weights, const Adapter& adapter,
                               std::initializer_list<PackedMatrix LayerWeights::*> members) {
  std::vector<Format> formats;
  if (!adapter.empty()) formats.push_back(Format::f32);
  for (const LayerWeights& layer : weights.layers)
    for (const auto member : members) formats.push_back((layer.*member).format);
  return formats;
}

}  // namespace

Forward::Forward(const Config& config, const Weights& weights, const Adapter& adapter, const Kernels& kernels,
                 ThreadPool& pool, CacheType cache_type)
    : config_(config),
      weights_(weights),
      adapter_(adapter),
      kernels_(kernels),
      pool_(pool),
      adapter_pass_(adapter, kernels, pool),
      cache_type_(cache_type),
      width_(round16(config.hidden_size)),
      query_width_(round16(config.num_attention_heads * config.head_dim)),
      kv_width_(round16(config.num_key_value_heads * config.head_dim)),
      ffn_width_(round16(config.intermediate_size)),
      vocab_stride_(round16(config.vocab_size)),
      query_scale_(static_cast<float>(1.0 / std::sqrt(config.query_pre_attn_scalar))),
      embedding_scale_(config.scale_embeddings ? static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)))
                                               : 1.0f) {
  const int64_t rows = max_pass_rows, half = config.head_dim / 2;
  x_ = AlignedArray<float>(rows * width_);
  out_ = AlignedArray<float>(rows * width_);
  queries_ = AlignedArray<float>(rows * query_width_);
  keys_ = AlignedArray<float>(rows * kv_width_);
  values_ = AlignedArray<float>(rows * kv_width_);
  attended_ = AlignedArray<float>(rows * query_width_);
  using L = LayerWeights;
  hidden_inputs_ = InputRows(config.hidden_size, rows, formats_of(weights, adapter, {&L::q, &L::k, &L::v, &L::gate, &L::up}));
  attended_inputs_ = InputRows(config.num_attention_heads * config.head_dim, rows, formats_of(weights, adapter, {&L::o}));
  ffn_inputs_ = InputRows(config.intermediate_size, rows, formats_of(weights, adapter, {&L::down}));
  head_inputs_ = InputRows(config.hidden_size, head_rows, {weights.head.format});
  head_hidden_ = AlignedArray<float>(head_rows * width_);
  cos_ = AlignedArray<float>(kinds * rows * half);
  sin_ = AlignedArray<float>(kinds * rows * half);
  const RopeParameters ropes[kinds] = {config.sliding_rope, config.full_rope};
  for (int64_t kind = 0; kind < kinds; ++kind)
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
      const float frequency = static_cast<float>(1.0 / std::pow(ropes[kind].rope_theta, exponent));
      inverse_frequencies_[kind].push_back(frequency / static_cast<float>(ropes[kind].factor));
    }
  ffn_ = AlignedArray<float>(ffn_inputs_.unit() > ffn_columns ? few_rows * ffn_width_ : 0);
  const int64_t ffn_scratch = ffn_rows * (2 * ffn_columns + ffn_inputs_.unit());
  const int64_t scratch = std::max(attention_scratch_floats(config.head_dim), ffn_scratch);
  for (int thread = 0; thread < pool.num_threads(); ++thread) {
    scratch_.emplace_back(scratch);
    panels_.emplace_back(1);
  }
}

void Forward::run(std::span<const PassRow> rows) {
  rows_ = rows;
  num_rows_ = static_cast<int64_t>(rows.size());
  plan_attention();
  for (InputRows* inputs : {&hidden_inputs_, &attended_inputs_, &ffn_inputs_}) inputs->begin(kernels_, num_rows_);
  pool_.run([this](int thread) {
    embed(thread);
    for (size_t layer = 0; layer < weights_.layers.size(); ++layer) run_layer(layer, thread);
  });
}

// A row's angles are position * frequency in float32, as the references have them.
void Forward::embed(int thread) {
  const int64_t half = config_.head_dim / 2;
  pool_.share(thread, num_rows_, [&](int64_t row) {
    for (int64_t kind = 0; kind < kinds; ++kind) {
      float* cos = cos_.data() + (kind * max_pass_rows + row) * half;
      float* sin = sin_.data() + (kind * max_pass_rows + row) * half;
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(rows_[row].position) * inverse_frequencies_[kind][i];
        cos[i] = std::cos(angle);
        sin[i] = std::sin(angle);
      }
    }
    float* x = row_of(x_, row, width_);
    unpack_row(weights_.embedding, rows_[row].token_id, x);
    kernels_.scale(x, embedding_scale_, config_.hidden_size);
    normalise_input(0, row);
  });
}

// Work on whole rows follows each product. Of few rows, the thread that finishes the product last does it at once;
// many are shared, behind one more barrier.
void Forward::run_layer(size_t layer, int thread) {
  const LayerWeights& weights = weights_.layers[layer];
  const LayerUpdates& updates = adapter_.layer(layer);
  const int64_t attended_columns = config_.num_attention_heads * config_.head_dim;
  adapter_pass_.reduce({updates.q, updates.k, updates.v}, hidden_inputs_, num_rows_, thread);
  multiply({{&weights.q, queries_.data(), query_width_, updates.q},
            {&weights.k, keys_.data(), kv_width_, updates.k},
            {&weights.v, values_.data(), kv_width_, updates.v}},
           hidden_inputs_, thread, &weights.o, [&](int64_t row) { place_heads(layer, row); });
  share_then_rows(
      static_cast<int64_t>(attention_items_.size()), thread,
      [&](int64_t item, int64_t) { attend(layer, attention_items_[static_cast<size_t>(item)], thread); },
      [&](int64_t row) { attended_inputs_.set(kernels_, row, 0, attended_columns, row_of(attended_, row, query_width_)); });
  adapter_pass_.reduce({updates.o}, attended_inputs_, num_rows_, thread);
  multiply({{&weights.o, out_.data(), width_, updates.o}}, attended_inputs_, thread, &weights.gate,
           [&](int64_t row) { after_attention(layer, row); });
  adapter_pass_.reduce({updates.gate, updates.up}, hidden_inputs_, num_rows_, thread);
  feed_forward(layer, thread);
  adapter_pass_.reduce({updates.down}, ffn_inputs_, num_rows_, thread);
  multiply({{&weights.down, out_.data(), width_, updates.down}}, ffn_inputs_, thread,
           layer + 1 < weights_.layers.size() ? &weights_.layers[layer + 1].q : &weights_.head,
           [&](int64_t row) { after_feed_forward(layer, row); });
}

template <class Use, class UseRow>
void Forward::share_then_rows(int64_t items, int thread, Use&& use, UseRow&& use_row) {
  if (num_rows_ <= serial_rows) {
    pool_.share(thread, items, use, [&] {
      for (int64_t row = 0; row < num_rows_; ++row) use_row(row);
    });
  } else {
    pool_.share(thread, items, use, [] {});
    pool_.share(thread, num_rows_, use_row);
  }
}

template <class UseRow>
void Forward::multiply(std::initializer_list<Product> products, const InputRows& inputs, int thread,
                       const PackedMatrix* after, UseRow&& use_row) {
  int64_t items = 0;
  for (const Product& product : products) items += num_items(*product.matrix);
  const auto first_group = [&](int64_t item, const Product*& product) {
    product = products.begin();
    for (; item >= num_items(*product->matrix); ++product) item -= num_items(*product->matrix);
    return item * groups_per_item(*product->matrix);
  };
  share_then_rows(items, thread, [&](int64_t item, int64_t next) {
    const Product *product, *next_product;
    const int64_t begin = first_group(item, product);
    const int64_t end = std::min(begin + groups_per_item(*product->matrix), product->matrix->num_groups());
    const std::byte* after_item = after->group(std::min<int64_t>(thread * groups_per_item(*after), after->num_groups() - 1));
    if (next >= 0) {
      const int64_t group = first_group(next, next_product);
      after_item = next_product->matrix->group(group);
    }
    for (int64_t group = begin; group < end; ++group)
      multiply_group(*product, group, group + 1 < end ? product->matrix->group(group + 1) : after_item, inputs, num_rows_, thread);
  }, use_row);
}

void Forward::multiply_group(const Product& product, int64_t group, const std::byte* next, const InputRows& inputs,
                             int64_t num_rows, int thread, int64_t first_row) {
  const PackedMatrix& matrix = *product.matrix;
  const int64_t blocks = (matrix.columns + block_columns - 1) / block_columns;
  // Few rows read the weights once; many go through the columns in parts that stay in the cache.
  const int64_t step = num_rows <= few_rows ? blocks : cached_blocks;
  MatmulArgs args;
  args.panel = panels_[static_cast<size_t>(thread)].data();
  args.group = matrix.group(group);
  args.next = next;
  if (matrix.geometry.low_bytes) args.low = matrix.low_group(group);
  args.geometry = &matrix.geometry;
  args.columns = matrix.columns;
  args.inputs = inputs.view(matrix.format);
  args.first_row = first_row;
  args.num_rows = num_rows;
  args.out = product.out + group * group_rows;
  args.out_stride = product.stride;
  for (int64_t block = 0; block < blocks; block += step) {
    args.first_block = block;
    args.end_block = std::min(blocks, block + step);
    kernels_.matmul[static_cast<int>(matrix.format)](args);
  }
  if (product.update) adapter_pass_.add(*product.update, group, first_row, num_rows, args.out, args.out_stride, thread);
}

void Forward::normalise_input(size_t layer, int64_t row) {
  if (layer == weights_.layers.size()) return;
  float* normed = row_of(out_, row, width_);
  kernels_.rms_norm(row_of(x_, row, width_), weights_.layers[layer].input_norm, static_cast<float>(config_.rms_norm_eps),
                    config_.hidden_size, normed);
  hidden_inputs_.set(kernels_, row, 0, config_.hidden_size, normed);
}

// Norms, rotates and scales one row's queries; stores its keys and values.
void Forward::place_heads(size_t layer, int64_t row) {
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t head_dim = config_.head_dim, kind = config_.layer_types[layer] == LayerType::full_attention;
  const float* cos = cos_.data() + (kind * max_pass_rows + row) * (head_dim / 2);
  const float* sin = sin_.data() + (kind * max_pass_rows + row) * (head_dim / 2);
  const float eps = static_cast<float>(config_.rms_norm_eps);
  auto turn = [&](float* head, const float* gain) {
    if (gain) kernels_.rms_norm(head, gain, eps, head_dim, head);
    kernels_.rope(head, cos, sin, head_dim);
  };
  for (int64_t n = 0; n < config_.num_attention_heads; ++n) {
    float* query = row_of(queries_, row, query_width_) + n * head_dim;
    turn(query, weights.q_norm);
    kernels_.scale(query, query_scale_, head_dim);
  }
  const PassRow& token = rows_[row];
  const int64_t slot = token.sequence->slot(layer, token.position);
  const auto store = cache_type_ == CacheType::f32 ? kernels_.store_f32 : kernels_.store_bf16;
  for (int64_t k = 0; k < config_.num_key_value_heads; ++k) {
    float* key = row_of(keys_, row, kv_width_) + k * head_dim;
    turn(key, weights.k_norm);
    store(key, row_of(values_, row, kv_width_) + k * head_dim, head_dim, slot, token.sequence->keys(layer, k),
          token.sequence->values(layer, k));
  }
}

// Cuts the pass into items: rows of one sequence and one KV head, as many queries as a kernel takes, fewer where that
// would leave threads without work.
void Forward::plan_attention() {
  attention_items_.clear();
  const int64_t kv_heads = config_.num_key_value_heads, group = config_.num_attention_heads / kv_heads;
  const int64_t all = num_rows_ * config_.num_attention_heads;
  int64_t per_item = attention_rows;
  while (per_item > 1 && all / per_item < 2 * pool_.num_threads()) per_item /= 2;
  for (int64_t first = 0; first < num_rows_;) {
    int64_t end = first;
    while (end < num_rows_ && rows_[end].sequence == rows_[first].sequence) ++end;
    for (int64_t kv_head = 0; kv_head < kv_heads; ++kv_head)
      for (int64_t query = (end - first) * group; query > 0; query -= per_item) {
        const int64_t count = std::min(per_item, query);  // the last rows, which see most, come first
        attention_items_.push_back({first, query - count, count, kv_head});
      }
    first = end;
  }
}

void Forward::attend(size_t layer, const AttentionItem& item, int thread) {
  const int64_t head_dim = config_.head_dim, group = config_.num_attention_heads / config_.num_key_value_heads;
  const float* queries[attention_rows];
  float* outputs[attention_rows];
  int64_t positions[attention_rows];
  for (int64_t i = 0; i < item.count; ++i) {
    const int64_t row = item.first_row + (item.first + i) / group;
    const int64_t head = item.kv_head * group + (item.first + i) % group;
    queries[i] = row_of(queries_, row, query_width_) + head * head_dim;
    outputs[i] = row_of(attended_, row, query_width_) + head * head_dim;
    positions[i] = rows_[row].position;
  }
  CpuSequence& sequence = *rows_[item.first_row].sequence;
  AttentionArgs args;
  args.keys = sequence.keys(layer, item.kv_head);
  args.values = sequence.values(layer, item.kv_head);
  args.num_slots = sequence.slots(layer);
  if (CpuSequence* const shared = sequence.shared()) {
    args.shared_keys = shared->keys(layer, item.kv_head);
    args.shared_values = shared->values(layer, item.kv_head);
    args.num_shared = sequence.num_shared();
  }
  args.head_dim = head_dim;
  args.window = config_.layer_types[layer] == LayerType::sliding_attention ? config_.sliding_window.value_or(0) : 0;
  args.softcap = static_cast<float>(config_.attn_logit_softcapping.value_or(0.0));
  args.queries = queries;
  args.outputs = outputs;
  args.positions = positions;
  args.num_rows = item.count;
  args.scratch = scratch_[static_cast<size_t>(thread)].data();
  (cache_type_ == CacheType::f32 ? kernels_.attention_f32 : kernels_.attention_bf16)(args);
}

void Forward::after_attention(size_t layer, int64_t row) {
  const LayerWeights& weights = weights_.layers[layer];
  const float eps = static_cast<float>(config_.rms_norm_eps);
  float *x = row_of(x_, row, width_), *out = row_of(out_, row, width_);
  if (weights.post_attention_norm) kernels_.rms_norm(out, weights.post_attention_norm, eps, config_.hidden_size, out);
  kernels_.add(x, out, config_.hidden_size);
  kernels_.rms_norm(x, weights.pre_feedforward_norm, eps, config_.hidden_size, out);
  hidden_inputs_.set(kernels_, row, 0, config_.hidden_size, out);
}

// The activated, gated hidden values, handed on as the next product's input. An item is what one scale of that input
// needs; but with few rows, all threads share smaller ones and the rows are taken in afterwards.
void Forward::feed_forward(size_t layer, int thread) {
  const int64_t unit = ffn_inputs_.unit(), width = config_.intermediate_size;
  if (unit > ffn_columns && num_rows_ <= few_rows) {
    share_then_rows((width + ffn_columns - 1) / ffn_columns, thread, [&](int64_t item, int64_t next) {
      gate_and_up(layer, {item * ffn_columns, 0, num_rows_, next * ffn_columns}, thread, ffn_.data() + item * ffn_columns, ffn_width_);
    }, [&](int64_t row) { ffn_inputs_.set(kernels_, row, 0, width, row_of(ffn_, row, ffn_width_)); });
    return;
  }
  pool_.share(thread, (width + unit - 1) / unit, [&](int64_t item, int64_t next) {
    float* const hidden = scratch_[static_cast<size_t>(thread)].data() + 2 * ffn_rows * ffn_columns;
    const int64_t begin = item * unit, end = std::min(begin + unit, width);
    for (int64_t row = 0; row < num_rows_; row += ffn_rows) {
      const int64_t rows = std::min(ffn_rows, num_rows_ - row);
      for (int64_t column = begin; column < end; column += ffn_columns) {
        const int64_t following = column + ffn_columns < end ? column + ffn_columns : next < 0 ? -1 : next * unit;
        gate_and_up(layer, {column, row, rows, following}, thread, hidden + column - begin, unit);
      }
      for (int64_t r = 0; r < rows; ++r) ffn_inputs_.set(kernels_, row + r, begin, end - begin, hidden + r * unit);
    }
  }, [] {});
}

// Up to ffn_columns columns of one tile: out (rows, stride), of which whole groups are written.
void Forward::gate_and_up(size_t layer, const FeedForwardTile& tile, int thread, float* out, int64_t stride) {
  const LayerWeights& weights = weights_.layers[layer];
  const LayerUpdates& updates = adapter_.layer(layer);
  const auto gated = config_.hidden_activation == Activation::silu ? kernels_.gated_silu : kernels_.gated_gelu;
  float* const gate = scratch_[static_cast<size_t>(thread)].data();
  float* const up = gate + ffn_rows * ffn_columns;
  const int64_t first = tile.first_column / group_rows;
  const int64_t groups = (std::min(ffn_columns, config_.intermediate_size - tile.first_column) + group_rows - 1) / group_rows;
  for (int64_t group = 0; group < 2 * groups; ++group) {
    const bool is_up = group >= groups;
    const PackedMatrix& matrix = is_up ? weights.up : weights.gate;
    const std::byte* next = tile.next_column < 0 ? nullptr : weights.gate.group(tile.next_column / group_rows);
    if (group + 1 < 2 * groups) next = group + 1 == groups ? weights.up.group(first) : matrix.group(first + group % groups + 1);
    const Product product{&matrix, (is_up ? up : gate) - first * group_rows, ffn_columns, is_up ? updates.up : updates.gate};
    multiply_group(product, first + group % groups, next, hidden_inputs_, tile.rows, thread, tile.first_row);
  }
  for (int64_t r = 0; r < tile.rows; ++r)
    gated(gate + r * ffn_columns, up + r * ffn_columns, groups * group_rows, out + r * stride);
}

void Forward::after_feed_forward(size_t layer, int64_t row) {
  const LayerWeights& weights = weights_.layers[layer];
  float *x = row_of(x_, row, width_), *out = row_of(out_, row, width_);
  if (weights.post_feedforward_norm)
    kernels_.rms_norm(out, weights.post_feedforward_norm, static_cast<float>(config_.rms_norm_eps), config_.hidden_size, out);
  kernels_.add(x, out, config_.hidden_size);
  normalise_input(layer + 1, row);
}

}  // namespace gemcut
