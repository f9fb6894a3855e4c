// How tests make files.
#include "tests/files.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <unistd.h>

namespace gemcut::testing {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = std::filesystem::temp_directory_path().string() + "/gemcut-test-XXXXXX";
  if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder can be made");
  path_ = pattern + "/";
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, std::string_view bytes) const {
  std::ofstream(path_ + name, std::ios::binary) << bytes;
  return path_ + name;
}

std::string test_data(const std::string& name) {
  const auto path = std::filesystem::path(__FILE__).parent_path() / "data" / name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + " is missing");
  return {std::istreambuf_iterator<char>(file), {}};
}

GgufBytes& GgufBytes::key(const std::string& name, uint32_t value) {
  keys.emplace_back(name, Bytes().add<uint32_t>(4).add(value).str());
  return *this;
}

GgufBytes& GgufBytes::key(const std::string& name, float value) {
  keys.emplace_back(name, Bytes().add<uint32_t>(6).add(value).str());
  return *this;
}

GgufBytes& GgufBytes::key(const std::string& name, const std::string& value) {
  keys.emplace_back(name, Bytes().add<uint32_t>(8).text(value).str());
  return *this;
}

GgufBytes& GgufBytes::vocabulary(const std::vector<std::string>& pieces) {
  const auto begin = [&](uint32_t item) { return Bytes().add<uint32_t>(9).add(item).add<uint64_t>(pieces.size()); };
  Bytes tokens = begin(8), scores = begin(6), types = begin(5);
  for (size_t i = 0; i < pieces.size(); ++i) {
    tokens.text(pieces[i]);
    scores.add(-static_cast<float>(i));
    types.add<int32_t>(i == 0 ? 2 : i < 3 ? 3 : 1);
  }
  key("tokenizer.ggml.model", std::string("llama"));
  keys.emplace_back("tokenizer.ggml.tokens", tokens.str());
  keys.emplace_back("tokenizer.ggml.scores", scores.str());
  keys.emplace_back("tokenizer.ggml.token_type", types.str());
  return *this;
}

GgufBytes& GgufBytes::tensor(const std::string& name, const std::vector<uint64_t>& sizes, float value) {
  data.resize((data.size() + 31) / 32 * 32);
  tensors.push_back({name, {sizes.rbegin(), sizes.rend()}, 0, data.size()});
  uint64_t count = 1;
  for (const uint64_t size : sizes) count *= size;
  for (uint64_t i = 0; i < count; ++i) data += Bytes().add(value).str();
  return *this;
}

std::string GgufBytes::str() const {
  Bytes out;
  out.raw("GGUF").add(version).add<uint64_t>(tensors.size()).add<uint64_t>(keys.size());
  for (const auto& [name, value] : keys) out.text(name).raw(value);
  for (const Entry& entry : tensors) {
    out.text(entry.name).add(static_cast<uint32_t>(entry.sizes.size()));
    for (const uint64_t size : entry.sizes) out.add(size);
    out.add(entry.type).add(entry.offset);
  }
  if (!tensors.empty()) out.raw(std::string((32 - out.str().size() % 32) % 32, '\0')).raw(data);
  return out.str();
}

GgufBytes tiny_gguf() {
  GgufBytes file;
  file.key("general.architecture", std::string("gemma")).key("gemma.embedding_length", 4u);
  file.key("gemma.block_count", 1u).key("gemma.feed_forward_length", 8u).key("gemma.context_length", 16u);
  file.key("gemma.attention.head_count", 2u).key("gemma.attention.head_count_kv", 1u);
  file.key("gemma.attention.key_length", 2u).key("gemma.attention.layer_norm_rms_epsilon", 1e-6f);
  file.key("tokenizer.ggml.bos_token_id", 2u).key("tokenizer.ggml.eos_token_id", 1u);
  file.vocabulary({"<unk>", "<eos>", "<bos>", "a", "b", "ab"});
  file.tensor("token_embd.weight", {6, 4}).tensor("output_norm.weight", {4}, 1.5f);
  file.tensor("blk.0.attn_norm.weight", {4}, 1.25f).tensor("blk.0.ffn_norm.weight", {4}, 1.0f);
  file.tensor("blk.0.attn_q.weight", {4, 4}).tensor("blk.0.attn_k.weight", {2, 4}).tensor("blk.0.attn_v.weight",
      {2, 4});
  file.tensor("blk.0.attn_output.weight", {4, 4}).tensor("blk.0.ffn_gate.weight", {8, 4});
  return file.tensor("blk.0.ffn_up.weight", {8, 4}).tensor("blk.0.ffn_down.weight", {4, 8});
}

std::vector<std::pair<std::string, std::vector<int64_t>>> tiny_tensors() {
  const std::string layer = "model.layers.0.";
  return {
      {"model.embed_tokens.weight", {6, 4}},
      {layer + "input_layernorm.weight", {4}},
      {layer + "self_attn.q_proj.weight", {4, 4}},
      {layer + "self_attn.k_proj.weight", {2, 4}},
      {layer + "self_attn.v_proj.weight", {2, 4}},
      {layer + "self_attn.o_proj.weight", {4, 4}},
      {layer + "post_attention_layernorm.weight", {4}},
      {layer + "mlp.gate_proj.weight", {8, 4}},
      {layer + "mlp.up_proj.weight", {8, 4}},
      {layer + "mlp.down_proj.weight", {4, 8}},
      {"model.norm.weight", {4}},
  };
}

std::string tiny_config() {
  return R"({"model_type": "gemma", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "max_position_embeddings": 16})";
}

std::string safetensors_bytes(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors) {
  std::string header = "{";
  Bytes data;
  for (const auto& [name, sizes] : tensors) {
    const size_t begin = data.str().size();
    int64_t count = 1;
    std::string shape;
    for (const int64_t size : sizes) {
      count *= size;
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    }
    for (int64_t i = 0; i < count; ++i) data.add(0.25f);
    header += (header.size() > 1 ? ", \"" : "\"") + name + "\": {\"dtype\": \"F32\", \"shape\": [" + shape +
              "], \"data_offsets\": [" + std::to_string(begin) + ", " + std::to_string(data.str().size()) + "]}";
  }
  header += "}";
  return Bytes().text(header).raw(data.str()).str();
}

}  // namespace gemcut::testing
