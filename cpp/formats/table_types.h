// What the rows of the generated tables (formats/tables.h) are.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "formats/config.h"

namespace gemcut::tables {

// Source: src/gemcut/quantize/ggml_types.py.
struct GgmlType {
  uint32_t number;
  const char* name;
  int64_t block_values, block_bytes;
};

// Bytes of one number. Source: src/gemcut/checkpoint/safetensors_file.py.
struct SafetensorsType {
  std::string_view name;
  uint64_t num_bytes;
};

// Fields of a Config that a family fixes.
struct Traits {
  bool scale_embeddings, norm_unit_offset, post_norms, qk_norm;
  Activation activation;
};

// What one general.architecture implies; 0: nothing. Source: src/gemcut/config/gguf.py.
struct Architecture {
  std::string_view name, model_type;
  Traits traits;
  int64_t period, default_window;
  double default_attention_cap, default_final_cap;
  int64_t narrow_scale_layers;
  double local_theta;
  bool scales_local_rope;
};

// What one model_type of a config.json means; -1 among sizes and ids, and 0 elsewhere: nothing.
// Source: src/gemcut/config/huggingface.py.
struct Family {
  std::string_view name, architecture;
  std::array<int64_t, 8> sizes;      // in the order of kSizes
  std::array<int64_t, 3> token_ids;  // in the order of kTokenIds
  std::string_view activation_key, default_activation;
  Traits traits;
  std::span<const std::string_view> keys;  // that the family has besides
  bool default_tied;
  int64_t default_window;
  double default_attention_cap, default_final_cap;
  double theta, local_theta;
};

// A value at which a key does not change the arithmetic.
struct NeutralValue {
  enum class Kind : uint8_t { null, number, text, empty_object };
  std::string_view key;
  Kind kind;
  double number;          // true is 1 and false 0, as in Python
  std::string_view text;  // of a number, as its author writes it: "false"
};

struct Rename {
  std::string_view theirs, ours;
};

// What a tensor's sizes are.
enum class Axis : uint8_t { none, vocab, hidden, intermediate, query_rows, kv_rows, head };

// One tensor of a layer. Source: src/gemcut/config/parameters.py.
struct LayerTensor {
  std::string_view name;  // inside the layer
  Axis rows, columns;     // a vector has no columns
  bool needs_qk_norm, needs_post_norms;
};

}  // namespace gemcut::tables
