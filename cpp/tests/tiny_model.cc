// Tiny random models for the tests of the engine.
#include "tests/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "formats/error.h"

namespace gemcut::testing {

const std::vector<std::string>& families() {
  static const auto names =
      cases<std::vector<std::string>>({"gemma", "gemma2", "gemma3", "llama", "mistral"}, {"gemma3", "llama"});
  return names;
}

Config family_config(const std::string& family) {
  Config config;
  config.model_type = family;
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  config.max_position_embeddings = 4096;
  config.query_pre_attn_scalar = 16;
  config.layer_types.assign(2, LayerType::full_attention);
  if (family == "gemma") config.num_key_value_heads = 1;
  if (family == "gemma2" || family == "gemma3") {
    const int64_t period = family == "gemma2" ? 2 : 6;
    config.num_hidden_layers = period;
    config.layer_types.assign(static_cast<size_t>(period), LayerType::sliding_attention);
    config.layer_types.back() = LayerType::full_attention;
    config.post_norms = true;
    config.sliding_window = 8;
  }
  if (family == "gemma2") config.attn_logit_softcapping = 5.0, config.final_logit_softcapping = 30.0;
  if (family == "gemma3") config.qk_norm = true, config.full_rope = {1e6, 8.0};
  if (family == "llama" || family == "mistral") {
    config.hidden_activation = Activation::silu;
    config.scale_embeddings = config.norm_unit_offset = config.tie_word_embeddings = false;
  }
  if (family == "mistral") {
    config.layer_types.assign(2, LayerType::sliding_attention);
    config.sliding_window = 8;
    config.tie_word_embeddings = true;
  }
  check_config(config, family);
  return config;
}

void TinyCheckpoint::add(const std::string& name, int64_t rows, int64_t columns, TensorType type, Random& random) {
  // Products of 64 columns then have about the size of their inputs.
  const int exponent = 1 - static_cast<int>(std::lround(std::log2(static_cast<double>(columns)) / 2));
  Tensor tensor;
  tensor.name = tensor.source = name;
  tensor.type = type;
  tensor.rows = rows;
  tensor.columns = columns;
  data_.push_back(random_stored(type, rows, columns, exponent, random));
  if (rows == 1) {
    const std::vector<float> around = random.floats(columns, 0.25f);
    for (int64_t i = 0; i < columns; ++i) {
      const float gain = around[static_cast<size_t>(i)] + (config_.norm_unit_offset ? 0.0f : 1.0f);
      std::memcpy(data_.back().data() + i * 4, &gain, 4);
    }
  }
  tensor.num_bytes = data_.back().size();
  tensor.data = data_.back().data();
  tensors_[name] = tensor;
}

TinyCheckpoint::TinyCheckpoint(const Config& config, const std::vector<TensorType>& types, uint64_t seed) : config_(config) {
  Random random(seed);
  size_t turn = 0;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns) {
    add(name, rows, columns, types[turn++ % types.size()], random);
  };
  const auto vector = [&](const std::string& name, int64_t size) { add(name, 1, size, TensorType::f32, random); };
  const int64_t D = config.hidden_size, F = config.intermediate_size, H = config.head_dim;
  const int64_t query_rows = config.num_attention_heads * H, kv_rows = config.num_key_value_heads * H;
  matrix("model.embed_tokens.weight", config.vocab_size, D);
  if (!config.tie_word_embeddings) matrix("lm_head.weight", config.vocab_size, D);
  vector("model.norm.weight", D);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    matrix(prefix + "self_attn.q_proj.weight", query_rows, D);
    matrix(prefix + "self_attn.k_proj.weight", kv_rows, D);
    matrix(prefix + "self_attn.v_proj.weight", kv_rows, D);
    matrix(prefix + "self_attn.o_proj.weight", D, query_rows);
    matrix(prefix + "mlp.gate_proj.weight", F, D);
    matrix(prefix + "mlp.up_proj.weight", F, D);
    matrix(prefix + "mlp.down_proj.weight", D, F);
    vector(prefix + "input_layernorm.weight", D);
    vector(prefix + "post_attention_layernorm.weight", D);
    if (config.post_norms) {
      vector(prefix + "pre_feedforward_layernorm.weight", D);
      vector(prefix + "post_feedforward_layernorm.weight", D);
    }
    if (!config.qk_norm) continue;
    vector(prefix + "self_attn.q_norm.weight", H);
    vector(prefix + "self_attn.k_norm.weight", H);
  }
}

void TinyCheckpoint::copy(const Tensor& tensor, size_t byte_offset, size_t num_bytes, std::byte* out) const {
  check_unchanged();
  if (byte_offset + num_bytes > tensor.num_bytes) throw std::logic_error("a copy beyond the end of " + tensor.name);
  std::memcpy(out, tensor.data + byte_offset, num_bytes);
}

void TinyCheckpoint::check_unchanged() const {
  if (shrunk_) throw Error(ErrorKind::checkpoint, "[tests.tiny_model] tiny: the file has shrunk. Get it again.");
}

void TinyCheckpoint::permute_queries_and_keys() {
  const int64_t H = config_.head_dim;
  for (auto& [name, tensor] : tensors_) {
    const bool is_query = name.find("q_proj") != name.npos;
    if (!is_query && name.find("k_proj") == name.npos) continue;
    const int64_t row_bytes = static_cast<int64_t>(tensor.num_bytes) / tensor.rows;
    std::vector<std::byte> stored(tensor.num_bytes);
    for (int64_t row = 0; row < tensor.rows; ++row) {
      const int64_t in_head = row % H;
      const int64_t to = row - in_head + (in_head < H / 2 ? 2 * in_head : 2 * (in_head - H / 2) + 1);
      std::memcpy(stored.data() + to * row_bytes, tensor.data + row * row_bytes, static_cast<size_t>(row_bytes));
    }
    data_.push_back(std::move(stored));
    tensor.data = data_.back().data();
    tensor.transform = is_query ? Transform::unpermute_query : Transform::unpermute_key;
  }
}

void TinyCheckpoint::add_update(const AdapterMatrix& update) {
  Tensor& tensor = tensors_.at(update.name);
  data_.emplace_back(tensor.data, tensor.data + tensor.num_bytes);
  auto* const values = reinterpret_cast<float*>(data_.back().data());
  for (int64_t row = 0; row < update.rows; ++row)
    for (int64_t column = 0; column < update.columns; ++column) {
      double sum = 0;
      for (int64_t i = 0; i < update.rank; ++i)
        sum += static_cast<double>(update.b[row * update.rank + i]) * update.a[i * update.columns + column];
      values[row * update.columns + column] += static_cast<float>(update.scale * sum);
    }
  tensor.data = data_.back().data();
}

std::unique_ptr<Engine> tiny_engine(const Checkpoint& checkpoint, int num_threads, CacheType cache_type) {
  EngineOptions options;
  options.num_threads = num_threads;
  options.cache_type = cache_type;
  options.use_layout_cache = false;
  return Engine::load(checkpoint, options);
}

std::vector<int32_t> random_tokens(const Config& config, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> token_ids(static_cast<size_t>(count));
  for (int32_t& token_id : token_ids) token_id = static_cast<int32_t>(random.below(config.vocab_size));
  return token_ids;
}

std::vector<float> append(Engine& engine, Sequence& sequence, std::span<const int32_t> token_ids, Rows rows) {
  const Work work{&sequence, token_ids};
  PassOptions options;
  options.rows = rows;
  return engine.forward({&work, 1}, options).logits;
}

ChosenIsa::ChosenIsa(const std::string& name) {
  if (const char* const old = std::getenv("GEMCUT_ISA")) old_ = old;
  setenv("GEMCUT_ISA", name.c_str(), 1);
}

ChosenIsa::~ChosenIsa() {
  if (old_) setenv("GEMCUT_ISA", old_->c_str(), 1);
  else unsetenv("GEMCUT_ISA");
}

}  // namespace gemcut::testing
