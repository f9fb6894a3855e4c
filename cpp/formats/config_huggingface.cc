// Hugging Face's config.json to a configuration. Equals gemcut.config.huggingface.config_from_hf.
#include <algorithm>
#include <cmath>

#include "formats/config_readers.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

using Kind = Json::Kind;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::config, message("[formats.config_huggingface] ", where, ": ", what));
}

// Numbers as Python compares them: true is 1 and false is 0.
std::optional<double> number_of(const Json& value) {
  if (value.is(Kind::boolean)) return value.boolean() ? 1 : 0;
  return value.is_number() ? std::optional(value.number()) : std::nullopt;
}

// What Python takes for false: null, false, 0, and empty texts, lists and objects.
bool is_empty(const Json* value) {
  if (!value || value->is(Kind::null)) return true;
  if (const auto number = number_of(*value)) return *number == 0;
  return value->is(Kind::text) ? value->text().empty() : value->items().empty();
}

bool is_neutral(const Json& value, const tables::NeutralValue& neutral) {
  using NeutralKind = tables::NeutralValue::Kind;
  switch (neutral.kind) {
    case NeutralKind::null: return value.is(Kind::null);
    case NeutralKind::number: return number_of(value) == neutral.number;
    case NeutralKind::text: return value.is(Kind::text) && value.text() == neutral.text;
    case NeutralKind::empty_object: return value.is(Kind::object) && value.items().empty();
  }
  return false;
}

std::string neutral_text(const tables::NeutralValue& neutral) {
  using NeutralKind = tables::NeutralValue::Kind;
  switch (neutral.kind) {
    case NeutralKind::null: return "null";
    case NeutralKind::number: return std::string(neutral.text);
    case NeutralKind::text: return json_text(neutral.text);
    case NeutralKind::empty_object: return "{}";
  }
  return "";
}

// Accepts a key that the family does not use only where it surely leaves the arithmetic alone.
void check_unused(const std::string& key, const Json& value, std::string_view model_type, const std::string& where) {
  if (key == "model_type" || has_text(tables::kHarmlessKeys, key)) return;
  std::string allowed;
  for (const tables::NeutralValue& neutral : tables::kNeutralValues) {
    if (neutral.key != key) continue;
    if (is_neutral(value, neutral)) return;
    allowed += (allowed.empty() ? "" : " or ") + neutral_text(neutral);
  }
  if (allowed.empty())
    refuse(where, message("key ", quoted(key), " (= ", value.shown(), ") is not known for model_type ",
                          quoted(model_type), " and could change what the model computes. Remove it only if it has no "
                          "effect."));
  refuse(where, message(key, " is ", value.shown(), ", expected ", allowed, ": model_type ", quoted(model_type),
                        " is not read with it."));
}

// The keys of a text decoder: those of an object, some of them replaced by the object around it.
class Keys {
 public:
  Keys(const Json* data, std::string where) : data_(data), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  void replace(std::string_view key, const Json& value) { replaced_.emplace_back(key, &value); }

  const Json* find(std::string_view key) const {
    for (const auto& [name, value] : replaced_)
      if (name == key) return value;
    return data_ ? data_->find(key) : nullptr;
  }

  // Each key of the object; the replaced ones are all in use.
  template <class Function>
  void each(Function&& function) const {
    if (!data_) return;
    for (size_t i = 0; i < data_->keys().size(); ++i) function(data_->keys()[i], data_->items()[i]);
  }

  std::string shown(std::string_view key) const {
    const Json* value = find(key);
    return value ? value->shown() : "missing";
  }

  // A finite number; nothing where the key is missing or null.
  std::optional<double> optional_number(std::string_view key) const {
    const Json* value = find(key);
    if (!value || value->is(Kind::null)) return std::nullopt;
    if (!value->is_number() || !std::isfinite(value->number()))
      refuse(where_, message(key, " is ", value->shown(), ", expected a number."));
    return value->number();
  }

  double number(std::string_view key, double otherwise) const { return optional_number(key).value_or(otherwise); }

 private:
  const Json* data_;
  std::string where_;
  std::vector<std::pair<std::string_view, const Json*>> replaced_;
};

const tables::Family& find_family(const Json* model_type, const std::string& where) {
  std::string known;
  for (const tables::Family& family : tables::kFamilies) {
    if (model_type && model_type->is(Kind::text) && model_type->text() == family.name) return family;
    known += std::string(family.name) + ", ";
  }
  refuse(where, message("model_type is ", model_type ? model_type->shown() : "missing", ", expected one of ", known,
                        "gemma3. Gemcut reads these families only."));
}

// One whole number out of kSizes; -1 where it follows from the others.
int64_t read_size(const Keys& keys, const tables::Family& family, size_t index) {
  const std::string_view name = tables::kSizes[index];
  const Json* value = keys.find(name);
  const bool follows = name == "num_key_value_heads" || name == "head_dim";
  if (!value) return family.sizes[index];
  if (value->is(Kind::null) && follows) return -1;
  if (!value->is(Kind::integer) || value->integer() < 1)
    refuse(keys.where(), message(name, " is ", value->shown(), ", expected a whole number of at least 1. Correct it."));
  return value->integer();
}

void read_sizes(Config& config, const Keys& keys, const tables::Family& family) {
  int64_t* const fields[] = {&config.vocab_size, &config.hidden_size, &config.intermediate_size,
                             &config.num_hidden_layers, &config.num_attention_heads, &config.num_key_value_heads,
                             &config.head_dim, &config.max_position_embeddings};
  for (size_t i = 0; i < std::size(fields); ++i) *fields[i] = read_size(keys, family, i);
  if (config.num_key_value_heads < 0) config.num_key_value_heads = config.num_attention_heads;
  if (config.head_dim < 0) config.head_dim = config.hidden_size / config.num_attention_heads;
}

std::vector<LayerType> listed_layer_types(const Json& list, const std::string& where) {
  std::vector<LayerType> types;
  const bool is_list = list.is(Kind::array);
  for (const Json& entry : list.items()) {
    const bool sliding = is_list && entry.is(Kind::text) && entry.text() == "sliding_attention";
    if (!sliding && !(is_list && entry.is(Kind::text) && entry.text() == "full_attention"))
      refuse(where, message("layer_types holds ", entry.shown(), ", expected sliding_attention or full_attention."));
    types.push_back(sliding ? LayerType::sliding_attention : LayerType::full_attention);
  }
  if (!is_list)
    refuse(where,
           message("layer_types is ", list.shown(), ", expected a list of sliding_attention and full_attention."));
  return types;
}

int64_t read_period(const Keys& keys, const tables::Family& family) {
  const Json* value = keys.find("sliding_window_pattern");
  if (is_empty(value)) value = keys.find("_sliding_window_pattern");
  if (is_empty(value)) return has_text(family.keys, "sliding_window_pattern") ? 6 : 2;
  if (value->is(Kind::boolean)) return 1;  // true, which Python counts as 1
  if (!value->is(Kind::integer) || value->integer() < 1)
    refuse(keys.where(), message("sliding_window_pattern is ", value->shown(), ", expected a whole number above 0."));
  return value->integer();
}

std::optional<int64_t> read_window(const Keys& keys, const tables::Family& family) {
  std::optional<int64_t> window;
  if (const Json* value = keys.find("sliding_window")) {
    if (!value->is(Kind::null) && !value->is(Kind::integer))
      refuse(keys.where(), message("sliding_window is ", value->shown(), ", expected a number of tokens or null."));
    if (value->is(Kind::integer)) window = value->integer();
  } else if (family.default_window > 0) {
    window = family.default_window;
  }
  const Json* early = keys.find("sliding_window_size");
  const bool same = !early || (early->is(Kind::null) ? !window : window && number_of(*early) == double(*window));
  if (!same)
    refuse(keys.where(), message("sliding_window_size is ", early->shown(), ", but sliding_window is ",
                                 keys.shown("sliding_window"), ". Make them equal."));
  return window;
}

// Sliding window and layer types.
void read_attention(Config& config, const Keys& keys, const tables::Family& family) {
  const int64_t layers = config.num_hidden_layers;
  if (layers > 10'000)
    refuse(keys.where(), message("num_hidden_layers is ", layers, ", expected a number of layers."));
  const std::optional<int64_t> window = read_window(keys, family);
  if (!has_text(family.keys, "layer_types")) {
    const bool sliding = has_text(family.keys, "sliding_window") && window;
    if (sliding) config.sliding_window = window;
    config.layer_types.assign(static_cast<size_t>(layers),
                              sliding ? LayerType::sliding_attention : LayerType::full_attention);
    return;
  }
  const Json* listed = keys.find("layer_types");
  config.layer_types = listed && !listed->is(Kind::null) ? listed_layer_types(*listed, keys.where())
                                                         : periodic_layer_types(layers, read_period(keys, family));
  const auto& types = config.layer_types;
  const bool any_sliding = std::find(types.begin(), types.end(), LayerType::sliding_attention) != types.end();
  if (any_sliding) config.sliding_window = window;
}

// One set of rotary parameters, from an object such as {"rope_type": "linear", "factor": 8.0}.
RopeParameters read_rope(const Json* parameters, double theta, const std::string& where) {
  if (!parameters || parameters->is(Kind::null)) return {theta, 1.0};
  if (!parameters->is(Kind::object))
    refuse(where, message("has ", parameters->shown(), " for a layer type, expected an object."));
  const Json* kind = parameters->find("rope_type");
  if (!kind) kind = parameters->find("type");
  const bool by_default = is_empty(kind) || (kind->is(Kind::text) && kind->text() == "default");
  if (!by_default && !(kind->is(Kind::text) && kind->text() == "linear"))
    refuse(where, message("rope type ", kind->shown(), " is not supported, expected \"default\" or \"linear\"."));
  static constexpr std::string_view kKnown[] = {"rope_type", "type", "rope_theta", "factor"};
  for (size_t i = 0; i < parameters->keys().size(); ++i) {
    const std::string& key = parameters->keys()[i];
    const Json& value = parameters->items()[i];
    const bool neutral = key == "partial_rotary_factor" && (value.is(Kind::null) || number_of(value) == 1.0);
    if (!has_text(kKnown, key) && !neutral)
      refuse(where, message(key, " is ", value.shown(), "; this key is not supported there."));
  }
  const Keys keys(parameters, where);
  const double factor = keys.number("factor", 1.0);
  if (by_default && factor != 1.0)
    refuse(where, message("factor is ", factor, ", but rope type \"default\" has none. Did you mean \"linear\"?"));
  return {keys.number("rope_theta", theta), factor};
}

void read_ropes(Config& config, const Keys& keys, const tables::Family& family) {
  const std::string& where = keys.where();
  const Json *scaling = keys.find("rope_scaling"), *parameters = keys.find("rope_parameters");
  if (!is_empty(scaling) && !is_empty(parameters))
    refuse(where, "has both rope_scaling and rope_parameters. Keep rope_parameters, the newer form.");
  for (const auto& [key, value] : {std::pair("rope_scaling", scaling), std::pair("rope_parameters", parameters)})
    if (value && !value->is(Kind::null) && !value->is(Kind::object))
      refuse(where, message(key, " is ", value->shown(), ", expected an object."));
  const double theta = keys.number("rope_theta", family.theta);
  const bool own_base = family.local_theta > 0;
  const double local_theta = own_base ? keys.number("rope_local_base_freq", family.local_theta) : theta;
  const std::string inside = where + ": rope_parameters";
  if (!is_empty(parameters) && (parameters->find("sliding_attention") || parameters->find("full_attention"))) {
    for (const std::string& key : parameters->keys())
      if (key != "sliding_attention" && key != "full_attention")
        refuse(where, message("rope_parameters has the key ", quoted(key), " beside its layer types. Remove it."));
    config.full_rope = read_rope(parameters->find("full_attention"), theta, inside);
    config.sliding_rope = read_rope(parameters->find("sliding_attention"), local_theta, inside);
    return;
  }
  if (!is_empty(parameters) && own_base)
    refuse(where, message("rope_parameters is ", parameters->shown(), ", expected one entry for each of "
                          "sliding_attention, full_attention: they have bases of their own."));
  config.full_rope = is_empty(scaling) ? read_rope(parameters, theta, inside)
                                       : read_rope(scaling, theta, where + ": rope_scaling");
  config.sliding_rope = own_base ? RopeParameters{local_theta, 1.0} : config.full_rope;
}

Activation read_activation(const Keys& keys, const tables::Family& family) {
  const Json* value = keys.find(family.activation_key);
  std::string name(family.default_activation);
  if (!is_empty(value)) name = value->is(Kind::text) ? value->text() : value->shown();
  if (name == "gelu_pytorch_tanh") return Activation::gelu_pytorch_tanh;
  if (name == "silu") return Activation::silu;
  // The first Gemma 1 files say "gelu" and mean its tanh form; transformers reads them so.
  if (name == "gelu" && family.architecture == "GemmaForCausalLM") return Activation::gelu_pytorch_tanh;
  refuse(keys.where(), message("hidden_activation ", quoted(name), " is not one of gelu_pytorch_tanh, silu. Models "
                               "with others are not read."));
}

// An id; the -1 of early files means none.
std::optional<int64_t> token_id(const Json& value, std::string_view key, const std::string& where) {
  if (value.is(Kind::null) || (value.is_number() && value.number() == -1)) return std::nullopt;
  if (!value.is(Kind::integer) || value.integer() < 0)
    refuse(where, message(key, " is ", value.shown(), ", expected a token id or null."));
  return value.integer();
}

void read_token_ids(Config& config, const Keys& keys, const tables::Family& family) {
  const auto one = [&](size_t index) -> std::optional<int64_t> {
    const std::string_view key = tables::kTokenIds[index];
    if (const Json* value = keys.find(key)) return token_id(*value, key, keys.where());
    const int64_t otherwise = family.token_ids[index];
    return otherwise < 0 ? std::nullopt : std::optional(otherwise);
  };
  config.bos_token_id = one(0);
  config.pad_token_id = one(2);
  const Json* eos = keys.find("eos_token_id");
  if (!eos || !eos->is(Kind::array)) {
    if (const auto id = one(1)) config.eos_token_ids.push_back(*id);
    return;
  }
  for (const Json& entry : eos->items())
    if (const auto id = token_id(entry, "eos_token_id", keys.where())) config.eos_token_ids.push_back(*id);
}

Config read_text_config(const Keys& keys, const Json* model_type) {
  const tables::Family& family = find_family(model_type, keys.where());
  keys.each([&](const std::string& key, const Json& value) {
    const bool used = has_text(tables::kCommonKeys, key) || has_text(family.keys, key) || key == family.activation_key;
    if (!used) check_unused(key, value, family.name, keys.where());
  });
  Config config;
  config.model_type = family.name;
  apply_traits(config, family.traits);
  read_sizes(config, keys, family);
  read_attention(config, keys, family);
  read_ropes(config, keys, family);
  config.query_pre_attn_scalar = static_cast<double>(config.head_dim);
  if (has_text(family.keys, "query_pre_attn_scalar"))
    config.query_pre_attn_scalar = keys.number("query_pre_attn_scalar", config.query_pre_attn_scalar);
  config.rms_norm_eps = keys.number("rms_norm_eps", config.rms_norm_eps);
  config.hidden_activation = read_activation(keys, family);
  const Json* tied = keys.find("tie_word_embeddings");
  if (tied && !tied->is(Kind::boolean))
    refuse(keys.where(), message("tie_word_embeddings is ", tied->shown(), ", expected true or false."));
  config.tie_word_embeddings = tied ? tied->boolean() : family.default_tied;
  read_token_ids(config, keys, family);
  const auto cap = [&](const char* key, double implied) -> std::optional<double> {
    if (keys.find(key)) return keys.optional_number(key);
    return implied > 0 ? std::optional(implied) : std::nullopt;
  };
  config.attn_logit_softcapping = cap("attn_logit_softcapping", family.default_attention_cap);
  config.final_logit_softcapping = cap("final_logit_softcapping", family.default_final_cap);
  check_config(config, keys.where());
  return config;
}

// The text decoder of a multimodal Gemma 3, with the keys that the outer level states for it.
Config read_multimodal(const Json& data, const std::string& where) {
  const Json* text = data.find("text_config");
  if (is_empty(text)) text = nullptr;
  if (text && !text->is(Kind::object))
    refuse(where, message("text_config is ", text->shown(), ", expected an object with the text decoder's keys."));
  Keys keys(text, where + ": text_config");
  for (size_t i = 0; i < data.keys().size(); ++i) {
    const std::string& key = data.keys()[i];
    const Json& value = data.items()[i];
    const bool shared = has_text(tables::kTokenIds, key) || key == "tie_word_embeddings";
    if (shared) {
      if (!value.is(Kind::null)) keys.replace(key, value);
    } else if (!has_text(tables::kMultimodalKeys, key)) {
      check_unused(key, value, "gemma3", where);
    }
  }
  const Json *outer_tied = data.find("tie_word_embeddings"), *tied = text ? text->find("tie_word_embeddings") : nullptr;
  if (outer_tied && !outer_tied->is(Kind::null) && tied && number_of(*tied) != number_of(*outer_tied))
    refuse(where, message("tie_word_embeddings is ", outer_tied->shown(), " outside and ", tied->shown(),
                          " inside text_config. Make them equal."));
  static const Json kTextType = Json::parse("\"gemma3_text\"", "", ErrorKind::failed);
  const Json* model_type = text ? text->find("model_type") : nullptr;
  return read_text_config(keys, model_type ? model_type : &kTextType);
}

}  // namespace

Config config_from_huggingface(const Json& data, const std::string& where) {
  if (!data.is(Kind::object))
    refuse(where, message("is ", data.shown(), ", expected a JSON object as in config.json."));
  const Json* model_type = data.find("model_type");
  if (model_type && model_type->is(Kind::text) && model_type->text() == "gemma3") return read_multimodal(data, where);
  return read_text_config(Keys(&data, where), model_type);
}

}  // namespace gemcut
