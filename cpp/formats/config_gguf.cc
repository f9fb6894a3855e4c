// GGUF metadata to a configuration. Equals gemcut.config.gguf.config_from_gguf.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "formats/config_readers.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::config, message("[formats.config_gguf] ", where, ": ", what));
}

bool is_neutral(const GgufValue& value, const tables::NeutralValue& neutral) {
  using Kind = tables::NeutralValue::Kind;
  if (neutral.kind == Kind::text) return value.kind == GgufValue::Kind::text && value.text == neutral.text;
  return neutral.kind == Kind::number && value.number() == neutral.number;
}

// A float as its author wrote it: GGUF keeps float32, in which 1e-6 is 9.99999997e-07.
double shortest(double value) {
  if (!(std::abs(value) <= std::numeric_limits<float>::max())) return value * std::numeric_limits<double>::infinity();
  const auto narrow = static_cast<float>(value);
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, narrow).ptr;
  double result = 0;
  std::from_chars(digits, end, result);
  return result;
}

// Rounded down, as Python divides.
int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// The keys of one architecture in a file's metadata.
class Keys {
 public:
  Keys(const GgufMetadata& metadata, std::string_view architecture, const std::string& where)
      : metadata_(metadata), prefix_(std::string(architecture) + "."), where_(where) {
    for (const auto& [key, value] : metadata.entries())
      if (key.starts_with(prefix_)) check_known(key.substr(prefix_.size()), value);
  }

  const std::string& where() const { return where_; }
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  const GgufValue* find(std::string_view key) const { return metadata_.find(full(key)); }

  // A whole number; a list of equal numbers, one for each layer, counts as one.
  std::optional<int64_t> optional_whole(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    const auto result = value->is_array() ? common_item(*value) : value->whole();
    if (!result) refuse(where_, message(full(key), " is ", value->shown(), ", expected one whole number."));
    return result;
  }

  int64_t whole(std::string_view key) const {
    const auto value = optional_whole(key);
    if (!value) refuse_missing(key);
    return *value;
  }

  int64_t whole(std::string_view key, int64_t otherwise) const { return optional_whole(key).value_or(otherwise); }

  std::optional<double> optional_number(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    const auto number = value->kind == GgufValue::Kind::boolean ? std::nullopt : value->number();
    if (!number) refuse(where_, message(full(key), " is ", value->shown(), ", expected a number."));
    return shortest(*number);
  }

  double number(std::string_view key, double otherwise) const { return optional_number(key).value_or(otherwise); }

  double number(std::string_view key) const {
    const auto value = optional_number(key);
    if (!value) refuse_missing(key);
    return *value;
  }

 private:
  static std::optional<int64_t> common_item(const GgufValue& list) {
    if (list.count == 0 || list.item_kind == GgufValue::Kind::text) return std::nullopt;
    const auto first = list.item(0).whole();
    for (size_t i = 1; i < list.count; ++i)
      if (list.item(i).whole() != first) return std::nullopt;
    return first;
  }

  [[noreturn]] void refuse_missing(std::string_view key) const {
    refuse(where_, message("metadata key ", quoted(full(key)), " is missing. The file is incomplete."));
  }

  void check_known(std::string_view key, const GgufValue& value) const {
    if (has_text(tables::kGgufUsedKeys, key) || has_text(tables::kGgufHarmlessKeys, key)) return;
    const tables::NeutralValue* known = nullptr;
    for (const tables::NeutralValue& neutral : tables::kGgufNeutralValues) {
      if (neutral.key != key) continue;
      if (is_neutral(value, neutral)) return;
      known = &neutral;
    }
    if (known)
      refuse(where_, message(full(key), " is ", value.shown(), ", expected ", known->text,
                             ": models with it are not read."));
    refuse(where_, message("metadata key ", quoted(full(key)), " (= ", value.shown(), ") is not known and could change "
                           "what the model computes. It may need a newer Gemcut."));
  }

  const GgufMetadata& metadata_;
  std::string prefix_;
  const std::string& where_;
};

const tables::Architecture& find_architecture(const GgufMetadata& metadata, const std::string& where) {
  const GgufValue* value = metadata.find("general.architecture");
  std::string known;
  for (const tables::Architecture& row : tables::kArchitectures) {
    if (value && value->kind == GgufValue::Kind::text && value->text == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  refuse(where, message("general.architecture is ", value ? value->shown() : "missing", ", expected one of ", known,
                        ". Gemcut reads these families only."));
}

void read_widths(Config& config, const Keys& keys) {
  config.hidden_size = keys.whole("embedding_length");
  config.num_attention_heads = keys.whole("attention.head_count");
  const int64_t heads = config.num_attention_heads;
  config.head_dim = keys.whole("attention.key_length", heads > 0 ? floor_divide(config.hidden_size, heads) : 0);
  for (const char* key : {"attention.value_length", "rope.dimension_count"})
    if (const int64_t found = keys.whole(key, config.head_dim); found != config.head_dim)
      refuse(keys.where(), message(keys.full(key), " is ", found, ", expected ", config.head_dim,
                                   ", the width of a head. Models with other widths are not read."));
  config.num_key_value_heads = keys.whole("attention.head_count_kv", heads);
  config.intermediate_size = keys.whole("feed_forward_length");
  config.max_position_embeddings = keys.whole("context_length");
}

std::vector<LayerType> listed_layer_types(const GgufValue& pattern) {
  std::vector<LayerType> types;
  for (size_t i = 0; i < pattern.count; ++i)
    types.push_back(pattern.item(i).bits ? LayerType::sliding_attention : LayerType::full_attention);
  return types;
}

// Sliding window and layer types.
void read_attention(Config& config, const Keys& keys, const tables::Architecture& architecture) {
  const int64_t layers = config.num_hidden_layers;
  if (layers < 1 || layers > 10'000)
    refuse(keys.where(), message(keys.full("block_count"), " is ", layers, ", expected a number of layers."));
  const int64_t window = keys.whole("attention.sliding_window", architecture.default_window);
  const GgufValue* pattern = keys.find("attention.sliding_window_pattern");
  if (window == 0) {
    config.layer_types.assign(static_cast<size_t>(layers), LayerType::full_attention);
    return;
  }
  config.sliding_window = window;
  if (!pattern && architecture.period == 0) {
    // Only Mistral 7B v0.1 has a window under the architecture "llama", and there every layer has it.
    config.layer_types.assign(static_cast<size_t>(layers), LayerType::sliding_attention);
    return;
  }
  if (!pattern) {
    config.layer_types = periodic_layer_types(layers, architecture.period);
  } else if (pattern->is_array() && pattern->item_kind == GgufValue::Kind::boolean &&
             pattern->count == static_cast<size_t>(layers)) {
    config.layer_types = listed_layer_types(*pattern);
  } else if (!pattern->is_array() && pattern->whole().value_or(0) > 0) {
    config.layer_types = periodic_layer_types(layers, *pattern->whole());
  } else {
    refuse(keys.where(), message(keys.full("attention.sliding_window_pattern"), " is ", pattern->shown(),
                                 ", expected a whole number above 0 or a list of ", layers, " booleans."));
  }
  const auto sliding = std::find(config.layer_types.begin(), config.layer_types.end(), LayerType::sliding_attention);
  if (sliding == config.layer_types.end()) config.sliding_window.reset();
}

void read_ropes(Config& config, const Keys& keys, const tables::Architecture& architecture) {
  const GgufValue* scaling = keys.find("rope.scaling.type");
  const bool is_text = scaling && scaling->kind == GgufValue::Kind::text;
  if (scaling && !(is_text && (scaling->text == "none" || scaling->text == "linear")))
    refuse(keys.where(), message(keys.full("rope.scaling.type"), " is ", scaling->shown(),
                                 ", expected \"none\" or \"linear\". Models with others are not read."));
  const bool linear = scaling ? scaling->text == "linear" : keys.find("rope.scale_linear") != nullptr;
  double factor = 1.0;
  if (linear) {
    const double older = keys.number("rope.scale_linear", 1.0);
    factor = keys.number("rope.scaling.factor", older);
  }
  if (factor == 0) factor = 1.0;  // llama.cpp takes a factor of 0 for none
  const double theta = keys.number("rope.freq_base", 10'000.0);
  const double implied_theta = architecture.local_theta > 0 ? architecture.local_theta : theta;
  const double local_theta = keys.number("rope.freq_base_swa", implied_theta);
  config.sliding_rope = {local_theta, architecture.scales_local_rope ? factor : 1.0};
  config.full_rope = {theta, factor};
}

// A key's soft cap; without the key what the architecture implies.
std::optional<double> soft_cap(const Keys& keys, std::string_view key, double implied) {
  if (const auto value = keys.optional_number(key)) return value;
  return implied > 0 ? std::optional(implied) : std::nullopt;
}

std::optional<int64_t> token_id(const GgufMetadata& metadata, const std::string& key, const std::string& where) {
  const GgufValue* value = metadata.find("tokenizer.ggml." + key);
  if (!value) return std::nullopt;
  const auto id = value->whole();
  if (!id || *id < 0)
    refuse(where, message("tokenizer.ggml.", key, " is ", value->shown(), ", expected a token id."));
  return id;
}

void read_token_ids(Config& config, const GgufMetadata& metadata, const std::string& where) {
  config.bos_token_id = token_id(metadata, "bos_token_id", where);
  config.pad_token_id = token_id(metadata, "padding_token_id", where);
  std::vector<int64_t>& ends = config.eos_token_ids;
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (const auto id = token_id(metadata, key, where); id && std::find(ends.begin(), ends.end(), *id) == ends.end())
      ends.push_back(*id);
}

// Rows of the embedding: as the key says, else as the tensor has, else one for each token.
int64_t vocab_size(const GgufMetadata& metadata, const Keys& keys, const std::vector<StoredTensor>& tensors) {
  if (const auto stated = keys.optional_whole("vocab_size")) return *stated;
  for (const StoredTensor& tensor : tensors)
    if (tensor.name == "token_embd.weight") return tensor.shape[0];
  const GgufValue* tokens = metadata.find("tokenizer.ggml.tokens");
  if (!tokens || !tokens->is_array())
    refuse(keys.where(),
           message("has no ", keys.full("vocab_size"), ", no token_embd.weight and no vocabulary, so the ",
                                 "number of tokens is unknown. The file is incomplete."));
  return static_cast<int64_t>(tokens->count);
}

// The family's name; a llama file is Mistral's where it has a window or says so in its name.
std::string model_type(const GgufMetadata& metadata, const tables::Architecture& architecture, const Config& config) {
  std::string names;
  for (const char* key : {"general.name", "general.basename"})
    names += std::string(metadata.text(key).value_or("")) + " ";
  std::transform(names.begin(), names.end(), names.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  const bool is_mistral = config.sliding_window || names.find("mistral") != names.npos;
  return std::string(architecture.model_type == "llama" && is_mistral ? "mistral" : architecture.model_type);
}

}  // namespace

Config config_from_gguf(const GgufMetadata& metadata, const std::vector<StoredTensor>& tensors,
                        const std::string& where) {
  const tables::Architecture& architecture = find_architecture(metadata, where);
  const Keys keys(metadata, architecture.name, where);
  Config config;
  apply_traits(config, architecture.traits);
  read_widths(config, keys);
  config.num_hidden_layers = keys.whole("block_count");
  read_attention(config, keys, architecture);
  read_token_ids(config, metadata, where);
  config.attn_logit_softcapping = soft_cap(keys, "attn_logit_softcapping", architecture.default_attention_cap);
  config.final_logit_softcapping = soft_cap(keys, "final_logit_softcapping", architecture.default_final_cap);
  config.vocab_size = vocab_size(metadata, keys, tensors);
  read_ropes(config, keys, architecture);
  const int64_t heads = config.num_attention_heads;
  const bool narrow = architecture.narrow_scale_layers == config.num_hidden_layers && heads > 0;
  config.query_pre_attn_scalar =
      static_cast<double>(narrow ? floor_divide(config.hidden_size, heads) : config.head_dim);
  config.rms_norm_eps = keys.number("attention.layer_norm_rms_epsilon");
  config.tie_word_embeddings = std::none_of(tensors.begin(), tensors.end(),
                                            [](const StoredTensor& tensor) { return tensor.name == "output.weight"; });
  config.model_type = model_type(metadata, architecture, config);
  check_config(config, where);
  return config;
}

bool has_text(std::span<const std::string_view> texts, std::string_view text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

void apply_traits(Config& config, const tables::Traits& traits) {
  config.scale_embeddings = traits.scale_embeddings;
  config.norm_unit_offset = traits.norm_unit_offset;
  config.post_norms = traits.post_norms;
  config.qk_norm = traits.qk_norm;
  config.hidden_activation = traits.activation;
}

std::vector<LayerType> periodic_layer_types(int64_t num_layers, int64_t period) {
  std::vector<LayerType> types;
  for (int64_t index = 0; index < num_layers; ++index)
    types.push_back((index + 1) % period ? LayerType::sliding_attention : LayerType::full_attention);
  return types;
}

}  // namespace gemcut
