// The one configuration of the one decoder, field by field as gemcut.config.DecoderConfig has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gemcut {

enum class LayerType : uint8_t { sliding_attention, full_attention };
enum class Activation : uint8_t { gelu_pytorch_tanh, silu };

struct RopeParameters {
  double rope_theta = 10000.0;
  double factor = 1.0;  // positions are divided by it
};

// Source of every meaning: src/gemcut/config/decoder.py.
struct Config {
  int64_t vocab_size = 0;               // V
  int64_t hidden_size = 0;              // D
  int64_t intermediate_size = 0;        // F
  int64_t num_hidden_layers = 0;        // L
  int64_t num_attention_heads = 0;      // N
  int64_t num_key_value_heads = 0;      // K
  int64_t head_dim = 0;                 // H
  int64_t max_position_embeddings = 0;
  std::vector<LayerType> layer_types;   // L
  std::optional<int64_t> sliding_window;
  RopeParameters sliding_rope, full_rope;  // of each kind of layer; only kinds in layer_types matter
  double query_pre_attn_scalar = 0;
  double rms_norm_eps = 1e-6;
  Activation hidden_activation = Activation::gelu_pytorch_tanh;
  bool tie_word_embeddings = true;
  bool scale_embeddings = true;
  bool norm_unit_offset = true;
  bool post_norms = false;
  bool qk_norm = false;
  std::optional<double> attn_logit_softcapping, final_logit_softcapping;
  std::optional<int64_t> bos_token_id, pad_token_id;
  std::vector<int64_t> eos_token_ids;
  std::string model_type = "gemma";
};

// Throws ErrorKind::config, with `where` first, where fields contradict each other (DecoderConfig.__post_init__).
void check_config(const Config& config, const std::string& where);

// One JSON object, keys as DecoderConfig's fields; layer_types a list of names, rope_parameters an object by layer type.
std::string config_to_json(const Config& config);

}  // namespace gemcut
