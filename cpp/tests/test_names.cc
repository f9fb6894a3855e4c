// Matching of stored tensors with the decoder's, in both namings.
#include "formats/names.h"

#include <cstdlib>

#include "formats/config_readers.h"
#include "formats/safetensors.h"
#include "tests/files.h"
#include "tests/testing.h"

using gemcut::Config;
using gemcut::match_tensors;
using gemcut::MatchedTensors;
using gemcut::Naming;
using gemcut::Transform;
using gemcut::testing::TemporaryFolder;

namespace {

using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

Config tiny() {
  return gemcut::config_from_huggingface(
      gemcut::Json::parse(gemcut::testing::tiny_config(), "c", gemcut::ErrorKind::failed), "c");
}

MatchedTensors match(const Shapes& tensors, Naming naming, const Config& config) {
  const TemporaryFolder folder;
  const auto model = gemcut::read_safetensors(folder.write("m", gemcut::testing::safetensors_bytes(tensors)));
  return match_tensors(model, naming, config, "m");
}

Shapes with_prefix(const std::string& old_prefix, const std::string& prefix) {
  Shapes tensors = gemcut::testing::tiny_tensors();
  for (auto& [name, shape] : tensors) name.replace(0, old_prefix.size(), prefix);
  return tensors;
}

// The names that llama.cpp gives a decoder's tensors.
Shapes gguf_names(const Config& config) {
  const std::pair<const char*, const char*> kNames[] = {
      {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
          {"post_attention_layernorm", config.post_norms ? "post_attention_norm" : "ffn_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"}, {"post_feedforward_layernorm", "post_ffw_norm"},
      {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}};
  Shapes tensors;
  for (const gemcut::Parameter& parameter : gemcut::parameters(config, "c")) {
    std::string name = parameter.name == "model.embed_tokens.weight" ? "token_embd.weight"
                       : parameter.name == "model.norm.weight"       ? "output_norm.weight"
                                                                     : "output.weight";
    for (const auto& [ours, theirs] : kNames)
      if (parameter.name == std::string("model.layers.0.") + ours + ".weight")
        name = std::string("blk.0.") + theirs + ".weight";
    tensors.emplace_back(name, parameter.shape);
  }
  return tensors;
}

}  // namespace

TEST(names_of_huggingface_in_all_their_prefixes) {
  const Config config = tiny();
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model.", "language_model.", ""}) {
    const MatchedTensors matched = match(with_prefix("model.", prefix), Naming::huggingface, config);
    CHECK_EQUAL(matched.tensors.size(), 11u);
    const gemcut::Tensor& tensor = matched.tensors.at("model.layers.0.mlp.gate_proj.weight");
    CHECK_EQUAL(tensor.source, std::string(prefix) + "layers.0.mlp.gate_proj.weight");
    CHECK_EQUAL(tensor.rows, 8);
    CHECK_EQUAL(tensor.columns, 4);
    CHECK_EQUAL(tensor.num_bytes, 128u);
    CHECK(tensor.transform == Transform::none);
    CHECK_EQUAL(matched.tensors.at("model.norm.weight").rows, 1);
  }
}

TEST(names_of_gguf_in_every_family) {
  Config config = tiny();
  for (const bool post_norms : {false, true})
    for (const bool qk_norm : {false, true})
      for (const bool tied : {false, true}) {
        config.post_norms = post_norms;
        config.qk_norm = qk_norm;
        config.tie_word_embeddings = tied;
        const MatchedTensors matched = match(gguf_names(config), Naming::gguf, config);
        CHECK_EQUAL(matched.tensors.size(), gemcut::parameters(config, "c").size());
        for (const auto& [name, tensor] : matched.tensors) {
          CHECK_EQUAL(name, tensor.name);
          CHECK(tensor.transform == (name.find("norm") != name.npos ? Transform::minus_one : Transform::none));
        }
      }
}

TEST(names_of_llama_files_are_unpermuted) {
  Config config = tiny();
  config.norm_unit_offset = false;
  const MatchedTensors matched = match(gguf_names(config), Naming::gguf, config);
  for (const auto& [name, tensor] : matched.tensors) {
    const Transform wanted = name.ends_with("q_proj.weight")   ? Transform::unpermute_query
                             : name.ends_with("k_proj.weight") ? Transform::unpermute_key
                                                               : Transform::none;
    CHECK(tensor.transform == wanted);
  }
}

TEST(names_of_what_is_not_needed_carry_a_reason) {
  Shapes tensors = gemcut::testing::tiny_tensors();
  tensors.push_back({"lm_head.weight", {6, 4}});
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {1}});
  tensors.push_back({"vision_tower.x", {1}});
  const auto unused = match(tensors, Naming::huggingface, tiny()).unused;
  CHECK_EQUAL(unused.size(), 3u);
  CHECK_EQUAL(unused[0].second, "a copy of the embedding, which is the output head");
  CHECK_EQUAL(unused[1].second, "follows from the configuration");
  CHECK_EQUAL(unused[2].first, "vision_tower.x");
  CHECK_EQUAL(unused[2].second, "part of the vision tower");
}

TEST(names_of_a_padded_vocabulary) {
  Config config = tiny();
  config.vocab_size = 4;
  const MatchedTensors matched = match(gemcut::testing::tiny_tensors(), Naming::huggingface, config);
  CHECK_EQUAL(matched.tensors.at("model.embed_tokens.weight").rows, 4);
  CHECK_EQUAL(matched.tensors.at("model.embed_tokens.weight").num_bytes, 64u);
  CHECK_EQUAL(matched.unused[0].first, "model.embed_tokens.weight[4:6]");
  CHECK_EQUAL(matched.unused[0].second, "rows above vocab_size, padding");
}

TEST(names_that_do_not_fit_are_refused) {
  const Config config = tiny();
  Shapes tensors = gemcut::testing::tiny_tensors();
  const auto refuse = [&config](const Shapes& changed) { match(changed, Naming::huggingface, config); };
  Shapes changed = tensors;
  changed.push_back({"model.layers.1.mlp.up_proj.weight", {8, 4}});
  CHECK_THROWS(refuse(changed),
               "[formats.names] m: \"model.layers.1.mlp.up_proj.weight\" has no place in a gemma decoder of 1 layers");
  changed = tensors;
  changed.push_back({"language_model.model.norm.weight", {4}});
  CHECK_THROWS(refuse(changed),
               "\"language_model.model.norm.weight\" and \"model.norm.weight\" are both model.norm.weight");
  changed = tensors;
  changed.pop_back();
  changed.pop_back();
  CHECK_THROWS(refuse(changed), "2 of 11 tensors are missing, the first is model.layers.0.mlp.down_proj.weight");
  changed = tensors;
  changed[2].second = {4, 5};
  CHECK_THROWS(refuse(changed), "\"model.layers.0.self_attn.q_proj.weight\" is (4, 5), expected (4, 4) = "
                                "(num_attention_heads * head_dim, hidden_size)");
  changed[2].second = {4, 4, 1};
  CHECK_THROWS(refuse(changed), "is (4, 4, 1), expected (4, 4)");
  changed = tensors;
  changed[0].second = {135, 4};
  CHECK_THROWS(refuse(changed), "is (135, 4), expected (6, 4) = (vocab_size, hidden_size)");
}

TEST(names_of_types_that_are_not_computed_with_are_refused) {
  const TemporaryFolder folder;
  std::string bytes = gemcut::testing::safetensors_bytes(gemcut::testing::tiny_tensors());
  bytes.replace(bytes.find("F32"), 3, "I32");
  const auto model = gemcut::read_safetensors(folder.write("m", bytes));
  CHECK_THROWS(match_tensors(model, Naming::huggingface, tiny(), "m"),
               "m: \"model.embed_tokens.weight\" is stored as I32, expected one of BF16, F16, F32, IQ4_NL, ");
}

TEST(names_of_impossible_sizes_are_refused) {
  Config config = tiny();
  config.head_dim = INT64_MAX - 1;
  CHECK_THROWS(gemcut::parameters(config, "c"), "2 heads of 9223372036854775806 numbers are more than any model has");
}
