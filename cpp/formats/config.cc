// What a configuration must fulfil, and its JSON form.
#include "formats/config.h"

#include <algorithm>
#include <cmath>

#include "formats/json.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::config, message("[formats.config] ", where, ": ", what));
}

bool has_layers(const Config& config, LayerType type) {
  return std::find(config.layer_types.begin(), config.layer_types.end(), type) != config.layer_types.end();
}

void check_sizes(const Config& config, const std::string& where) {
  const int64_t sizes[] = {config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers,
                           config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                           config.max_position_embeddings};
  for (size_t i = 0; i < std::size(sizes); ++i)
    if (sizes[i] < 1)
      refuse(where,
             message(tables::kSizes[i], " is ", sizes[i], ", expected a whole number of at least 1. Correct it."));
  if (config.num_attention_heads % config.num_key_value_heads)
    refuse(where, message("num_attention_heads ", config.num_attention_heads, " is not a multiple of ",
                          "num_key_value_heads ", config.num_key_value_heads, ". Correct one of them."));
  if (config.head_dim % 2)
    refuse(where, message("head_dim is ", config.head_dim, ", expected an even number (RoPE rotates halves)."));
}

void check_layers(const Config& config, const std::string& where) {
  const auto num_types = static_cast<int64_t>(config.layer_types.size());
  if (num_types != config.num_hidden_layers)
    refuse(where, message("layer_types has ", num_types, " entries, expected ", config.num_hidden_layers,
                          " = num_hidden_layers. Correct one of them."));
  if (has_layers(config, LayerType::sliding_attention) && config.sliding_window.value_or(0) < 1)
    refuse(where, message("sliding_window is ", config.sliding_window ? std::to_string(*config.sliding_window) : "null",
                          ", but layer_types has sliding layers. Give a window of at least 1 token."));
}

void check_number(double value, std::string_view name, const std::string& where) {
  if (!(std::isfinite(value) && value > 0))
    refuse(where, message(name, " is ", value, ", expected a number above 0. Correct it."));
}

void check_rope(const RopeParameters& rope, const std::string& kind, const std::string& where) {
  check_number(rope.rope_theta, "rope_parameters[" + kind + "].rope_theta", where);
  check_number(rope.factor, "rope_parameters[" + kind + "].factor", where);
}

const char* layer_type_name(LayerType type) {
  return type == LayerType::sliding_attention ? "sliding_attention" : "full_attention";
}

// {"key": value, ...}, value by value.
class Object {
 public:
  void add(std::string_view key, const std::string& json) {
    text_ += (text_.size() > 1 ? ", " : "") + json_text(key) + ": " + json;
  }
  void add(std::string_view key, int64_t value) { add(key, std::to_string(value)); }
  void add(std::string_view key, double value) { add(key, json_number(value)); }
  void add(std::string_view key, bool value) { add(key, std::string(value ? "true" : "false")); }
  template <class Value>
  void add(std::string_view key, const std::optional<Value>& value) {
    if (value) add(key, *value);
    else add(key, std::string("null"));
  }
  std::string text() const { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

std::string rope_json(const RopeParameters& rope) {
  Object object;
  object.add("rope_theta", rope.rope_theta);
  object.add("factor", rope.factor);
  return object.text();
}

std::string ropes_json(const Config& config) {
  Object object;
  if (has_layers(config, LayerType::sliding_attention)) object.add("sliding_attention", rope_json(config.sliding_rope));
  if (has_layers(config, LayerType::full_attention)) object.add("full_attention", rope_json(config.full_rope));
  return object.text();
}

}  // namespace

void check_config(const Config& config, const std::string& where) {
  check_sizes(config, where);
  check_layers(config, where);
  check_number(config.query_pre_attn_scalar, "query_pre_attn_scalar", where);
  check_number(config.rms_norm_eps, "rms_norm_eps", where);
  if (has_layers(config, LayerType::sliding_attention)) check_rope(config.sliding_rope, "sliding_attention", where);
  if (has_layers(config, LayerType::full_attention)) check_rope(config.full_rope, "full_attention", where);
  if (config.attn_logit_softcapping) check_number(*config.attn_logit_softcapping, "attn_logit_softcapping", where);
  if (config.final_logit_softcapping) check_number(*config.final_logit_softcapping, "final_logit_softcapping", where);
}

std::string config_to_json(const Config& config) {
  std::string layer_types, eos;
  for (const LayerType type : config.layer_types)
    layer_types += (layer_types.empty() ? "" : ", ") + json_text(layer_type_name(type));
  for (const int64_t token_id : config.eos_token_ids) eos += (eos.empty() ? "" : ", ") + std::to_string(token_id);
  const char* const activation = config.hidden_activation == Activation::silu ? "silu" : "gelu_pytorch_tanh";
  Object object;
  object.add("vocab_size", config.vocab_size);
  object.add("hidden_size", config.hidden_size);
  object.add("intermediate_size", config.intermediate_size);
  object.add("num_hidden_layers", config.num_hidden_layers);
  object.add("num_attention_heads", config.num_attention_heads);
  object.add("num_key_value_heads", config.num_key_value_heads);
  object.add("head_dim", config.head_dim);
  object.add("max_position_embeddings", config.max_position_embeddings);
  object.add("layer_types", "[" + layer_types + "]");
  object.add("sliding_window", config.sliding_window);
  object.add("rope_parameters", ropes_json(config));
  object.add("query_pre_attn_scalar", config.query_pre_attn_scalar);
  object.add("rms_norm_eps", config.rms_norm_eps);
  object.add("hidden_activation", json_text(activation));
  object.add("tie_word_embeddings", config.tie_word_embeddings);
  object.add("scale_embeddings", config.scale_embeddings);
  object.add("norm_unit_offset", config.norm_unit_offset);
  object.add("post_norms", config.post_norms);
  object.add("qk_norm", config.qk_norm);
  object.add("attn_logit_softcapping", config.attn_logit_softcapping);
  object.add("final_logit_softcapping", config.final_logit_softcapping);
  object.add("bos_token_id", config.bos_token_id);
  object.add("pad_token_id", config.pad_token_id);
  object.add("eos_token_ids", "[" + eos + "]");
  object.add("model_type", json_text(config.model_type));
  return object.text();
}

}  // namespace gemcut
