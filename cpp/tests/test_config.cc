// Configurations: every change of every key gives what Python makes of it (data/configs.json), and the messages.
#include <deque>

#include "formats/config_readers.h"
#include "tests/files.h"
#include "tests/testing.h"

using gemcut::Config;
using gemcut::ErrorKind;
using gemcut::GgufMetadata;
using gemcut::GgufValue;
using gemcut::Json;

namespace {

Json parse(std::string_view text) { return Json::parse(text, "test", ErrorKind::failed); }

// Whether two values are the same to Python: 256 equals 256.0.
bool same(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.kind() != b.kind() || a.items().size() != b.items().size()) return false;
  if (a.is(Json::Kind::boolean)) return a.boolean() == b.boolean();
  for (size_t i = 0; i < a.items().size(); ++i) {
    const Json* other = a.is(Json::Kind::object) ? b.find(a.keys()[i]) : &b.items()[i];
    if (!other || !same(a.items()[i], *other)) return false;
  }
  return a.text() == b.text();
}

// GGUF metadata with JSON's values; the texts live as long as this.
class MetadataOf {
 public:
  void add(std::string_view key, const Json& json) {
    GgufValue value = scalar(json);
    if (json.is(Json::Kind::array)) {
      value.kind = GgufValue::Kind::array;
      value.item_kind = json.items().empty() ? GgufValue::Kind::int64 : scalar(json.items()[0]).kind;
      value.count = json.items().size();
      std::string& raw = texts_.emplace_back();
      for (const Json& item : json.items()) {
        if (item.is(Json::Kind::text)) value.texts.push_back(texts_.emplace_back(item.text()));
        else if (item.is(Json::Kind::boolean)) raw += item.boolean() ? '\1' : '\0';
        else raw += gemcut::testing::Bytes().add(item.integer()).str();
      }
      value.raw = raw;
    }
    metadata_.add(texts_.emplace_back(key), value);
  }

  const GgufMetadata& metadata() const { return metadata_; }

 private:
  GgufValue scalar(const Json& json) {
    GgufValue value;
    value.kind = GgufValue::Kind::text;
    if (json.is(Json::Kind::text)) value.text = texts_.emplace_back(json.text());
    if (json.is(Json::Kind::boolean)) value.kind = GgufValue::Kind::boolean, value.bits = json.boolean();
    if (json.is(Json::Kind::integer))
      value.kind = GgufValue::Kind::int64, value.bits = static_cast<uint64_t>(json.integer());
    if (json.is(Json::Kind::number))
      value.kind = GgufValue::Kind::float32,
      value.bits = std::bit_cast<uint64_t>(static_cast<double>(static_cast<float>(json.number())));
    return value;
  }

  std::deque<std::string> texts_;
  GgufMetadata metadata_;
};

Config config_of(const std::string& kind, const std::vector<std::pair<std::string, const Json*>>& keys) {
  if (kind == "gguf") {
    MetadataOf metadata;
    for (const auto& [key, value] : keys) metadata.add(key, *value);
    return gemcut::config_from_gguf(metadata.metadata(), {}, "x");
  }
  std::string text;
  for (const auto& [key, value] : keys)
    text += (text.empty() ? "{" : ", ") + gemcut::json_text(key) + ": " + value->shown(1 << 20);
  return gemcut::config_from_huggingface(parse(text.empty() ? "{}" : text + "}"), "x");
}

// The configuration as JSON, or "refused".
std::string read(const std::string& kind, const Json& data, const std::string& changed, const Json* value) {
  std::vector<std::pair<std::string, const Json*>> keys;
  bool replaced = false;
  for (size_t i = 0; i < data.keys().size(); ++i) {
    const bool hit = data.keys()[i] == changed;
    replaced |= hit;
    if (!hit || value) keys.emplace_back(data.keys()[i], hit ? value : &data.items()[i]);
  }
  if (!replaced && value) keys.emplace_back(changed, value);
  try {
    return gemcut::config_to_json(config_of(kind, keys));
  } catch (const gemcut::Error& error) {
    CHECK(error.kind() == ErrorKind::config);
    CHECK(std::string(error.what()).starts_with("[formats.config"));
    return "refused";
  }
}

// Fails unless `found` is the base's configuration with the differences, or refused where those are null.
void compare(const std::string& found, const Json& base, const Json& differences, const std::string& what) {
  if (differences.is(Json::Kind::null)) {
    if (found != "refused") gemcut::testing::fail(__FILE__, __LINE__, what + ": accepted as " + found);
    return;
  }
  if (found == "refused") gemcut::testing::fail(__FILE__, __LINE__, what + ": refused");
  const Json config = parse(found);
  if (config.keys() != base.keys()) gemcut::testing::fail(__FILE__, __LINE__, what + ": other fields");
  for (const std::string& field : base.keys()) {
    const Json* changed = differences.find(field);
    const Json& wanted = changed ? *changed : *base.find(field);
    if (!same(*config.find(field), wanted))
      gemcut::testing::fail(__FILE__, __LINE__,
                            what + ": " + field + " is " + config.find(field)->shown() + ", not " + wanted.shown());
  }
}

std::vector<Json> golden_lines() {
  const std::string text = gemcut::testing::test_data("configs.json");
  std::vector<Json> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    lines.push_back(parse(std::string_view(text).substr(begin, end - begin)));
    begin = end + 1;
  }
  return lines;
}

std::string refusal_of_gguf(const std::string& json) {
  const Json data = parse(json);
  MetadataOf metadata;
  for (size_t i = 0; i < data.keys().size(); ++i) metadata.add(data.keys()[i], data.items()[i]);
  try {
    gemcut::config_from_gguf(metadata.metadata(), {}, "m.gguf");
  } catch (const gemcut::Error& error) {
    return error.what();
  }
  return "accepted";
}

void check_has(const std::string& text, std::string_view part) {
  if (text.find(part) == text.npos)
    gemcut::testing::fail(__FILE__, __LINE__, "\"" + std::string(part) + "\" is not in: " + text);
}

// A minimal GGUF file's metadata with some more.
std::string gguf_with(const std::string& more) {
  const bool states_context = more.find("context_length") != std::string::npos;
  return R"({"general.architecture": "gemma", "gemma.embedding_length": 8, "gemma.attention.head_count": 2,
             "gemma.feed_forward_length": 8, "gemma.block_count": 1, "tokenizer.ggml.tokens": ["a"],
             "gemma.attention.layer_norm_rms_epsilon": 1e-6)" +
         std::string(states_context ? "" : R"(, "gemma.context_length": 8)") + more + "}";
}

}  // namespace

TEST(config_is_what_python_makes_of_every_change) {
  const std::vector<Json> lines = golden_lines();
  const auto& values = lines.front().find("values")->items();
  const auto& differences = lines.back().find("differences")->items();
  const Json* base = nullptr;
  size_t num_compared = 0;
  for (const Json& line : lines) {
    if (line.find("config")) {
      base = &line;
      compare(read(line.find("kind")->text(), *line.find("data"), "", nullptr), *line.find("config"), differences[1],
              "base");
    }
    if (!line.find("results")) continue;
    const std::string kind = base->find("kind")->text(), key = line.find("key")->text();
    std::vector<const Json*> changes = {nullptr};
    for (const Json& value : values) {
      const bool not_in_gguf = value.is(Json::Kind::null) || value.is(Json::Kind::object);
      if (kind == "huggingface" || !not_in_gguf) changes.push_back(&value);
    }
    const auto& results = line.find("results")->items();
    CHECK_EQUAL(results.size(), changes.size());
    const std::string what = kind + " " + base->find("data")->shown(60) + " " + key + " = ";
    for (size_t i = 0; i < changes.size(); ++i, ++num_compared)
      compare(read(kind, *base->find("data"), key, changes[i]), *base->find("config"),
              differences[static_cast<size_t>(results[i].integer())],
              what + (changes[i] ? changes[i]->shown() : "missing"));
  }
  CHECK(num_compared > 9000);
}

TEST(config_messages_of_gguf_say_what_to_do) {
  check_has(refusal_of_gguf("{}"),
            "[formats.config_gguf] m.gguf: general.architecture is missing, expected one of gemma, ");
  CHECK_EQUAL(refusal_of_gguf(gguf_with("")), "accepted");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.x": 5)")), "metadata key \"gemma.x\" (= 5) is not known");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.expert_count": 5)")), "gemma.expert_count is 5, expected 0");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.context_length": "a")")),
            "gemma.context_length is \"a\", expected one whole number");
  check_has(refusal_of_gguf(R"({"general.architecture": "gemma"})"),
            "metadata key \"gemma.embedding_length\" is missing");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.rope.freq_base": true)")),
            "gemma.rope.freq_base is true, expected a number");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.attention.value_length": 6)")),
            "gemma.attention.value_length is 6, expected 4, the width of a head");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.attention.sliding_window": 2,
                                          "gemma.attention.sliding_window_pattern": 0)")),
            "gemma.attention.sliding_window_pattern is 0, expected a whole number above 0 or a list of 1 booleans");
  check_has(refusal_of_gguf(gguf_with(R"(, "gemma.rope.scaling.type": "yarn")")),
            "gemma.rope.scaling.type is \"yarn\", expected \"none\" or \"linear\"");
  check_has(refusal_of_gguf(gguf_with(R"(, "tokenizer.ggml.bos_token_id": -1)")),
            "tokenizer.ggml.bos_token_id is -1, expected a token id");
}

TEST(config_of_gguf_needs_a_block_count_and_a_vocabulary) {
  std::string text = gguf_with("");
  text.replace(text.find("\"gemma.block_count\": 1"), 22, "\"gemma.block_count\": 0");
  check_has(refusal_of_gguf(text), "gemma.block_count is 0, expected a number of layers");
  text = gguf_with("");
  text.replace(text.find("\"tokenizer.ggml.tokens\""), 23, "\"general.nothing.at.all\"");
  check_has(refusal_of_gguf(text), "has no gemma.vocab_size, no token_embd.weight and no vocabulary");
  text = gguf_with("");
  text.replace(text.find("\"gemma.attention.layer_norm_rms_epsilon\""), 40,
               "\"general.nothing.nothing.at.all.in.here\"");
  check_has(refusal_of_gguf(text), "metadata key \"gemma.attention.layer_norm_rms_epsilon\" is missing");
}

namespace {
void read_hf(const std::string& json) { gemcut::config_from_huggingface(parse(json), "c.json"); }
}  // namespace

TEST(config_messages_of_config_json_say_what_to_do) {
  CHECK_THROWS(read_hf("[]"), "[formats.config_huggingface] c.json: is [], expected a JSON object as in config.json");
  CHECK_THROWS(read_hf(R"({"model_type": "bert"})"), "model_type is \"bert\", expected one of gemma, ");
  CHECK_THROWS(read_hf("{}"), "model_type is missing");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "x": 1})"), "key \"x\" (= 1) is not known for model_type \"gemma\"");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "attention_bias": true})"),
               "attention_bias is true, expected false: model_type");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "hidden_activation": "silu"})"),
               "hidden_activation is \"silu\", expected \"gelu_pytorch_tanh\" or null");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "pruned_heads": 1})"), "expected {} or null");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "vocab_size": 0})"),
               "vocab_size is 0, expected a whole number of at least 1");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "hidden_act": "relu"})"), "hidden_activation \"relu\" is not one of");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "num_hidden_layers": 10001})"), "num_hidden_layers is 10001");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rms_norm_eps": "a"})"), "rms_norm_eps is \"a\", expected a number");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "tie_word_embeddings": 1})"),
               "tie_word_embeddings is 1, expected true or false");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "bos_token_id": "a"})"),
               "bos_token_id is \"a\", expected a token id or null");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "eos_token_id": [1, -2]})"), "eos_token_id is -2");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma2", "sliding_window": "a"})"),
               "sliding_window is \"a\", expected a number of tokens or null");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma2", "sliding_window": 8, "sliding_window_size": 9})"),
               "sliding_window_size is 9, but sliding_window is 8");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma2", "layer_types": "a"})"), "layer_types is \"a\", expected a list of");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma2", "layer_types": ["a"]})"), "layer_types holds \"a\"");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma3_text", "sliding_window_pattern": -1})"),
               "sliding_window_pattern is -1");
}

TEST(config_messages_of_rope_say_what_to_do) {
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_scaling": {"factor": 1}, "rope_parameters": {"factor": 1}})"),
               "has both rope_scaling and rope_parameters");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_scaling": 1})"), "rope_scaling is 1, expected an object");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_scaling": {"rope_type": "yarn"}})"),
               "rope type \"yarn\" is not supported");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_scaling": {"beta": 1}})"),
               "beta is 1; this key is not supported there");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_scaling": {"factor": 2}})"),
               "factor is 2, but rope type \"default\" has none");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_parameters": {"full_attention": 3}})"),
               "has 3 for a layer type");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma", "rope_parameters": {"full_attention": {}, "x": 3}})"),
               "rope_parameters has the key \"x\" beside its layer types");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma3_text", "rope_parameters": {"factor": 3}})"),
               "they have bases of their own");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma3", "text_config": 3})"), "text_config is 3, expected an object");
  CHECK_THROWS(read_hf(R"({"model_type": "gemma3", "tie_word_embeddings": true,
                           "text_config": {"tie_word_embeddings": false}})"),
               "tie_word_embeddings is true outside and false inside text_config");
}

TEST(config_fields_that_contradict_each_other_are_refused) {
  const Config good = gemcut::config_from_huggingface(parse(R"({"model_type": "gemma2"})"), "c.json");
  const auto with = [&good](auto change) {
    Config config = good;
    change(config);
    gemcut::check_config(config, "c");
  };
  with([](Config&) {});
  CHECK_THROWS(with([](Config& c) { c.head_dim = 0; }),
               "[formats.config] c: head_dim is 0, expected a whole number of at least 1");
  CHECK_THROWS(with([](Config& c) { c.head_dim = 3; }), "head_dim is 3, expected an even number (RoPE rotates halves)");
  CHECK_THROWS(with([](Config& c) { c.num_key_value_heads = 3; }),
               "num_attention_heads 8 is not a multiple of num_key_value_heads 3");
  CHECK_THROWS(with([](Config& c) { c.layer_types.pop_back(); }),
               "layer_types has 25 entries, expected 26 = num_hidden_layers");
  CHECK_THROWS(with([](Config& c) { c.sliding_window.reset(); }),
               "sliding_window is null, but layer_types has sliding layers");
  CHECK_THROWS(with([](Config& c) { c.rms_norm_eps = 0; }), "rms_norm_eps is 0, expected a number above 0");
  CHECK_THROWS(with([](Config& c) { c.sliding_rope.factor = -1; }), "rope_parameters[sliding_attention].factor is -1");
  CHECK_THROWS(with([](Config& c) { c.full_rope.rope_theta = 0; }), "rope_parameters[full_attention].rope_theta is 0");
  CHECK_THROWS(with([](Config& c) { c.final_logit_softcapping = 0.0; }), "final_logit_softcapping is 0");
  CHECK_THROWS(with([](Config& c) { c.attn_logit_softcapping = -1.0; }), "attn_logit_softcapping is -1");
}
