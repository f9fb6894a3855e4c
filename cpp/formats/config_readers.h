// Configurations out of what checkpoints say. Equal to src/gemcut/config/gguf.py and huggingface.py: same values
// accepted, same refused, out of the same tables.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/config.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/stored_tensor.h"
#include "formats/table_types.h"

namespace gemcut {

// The decoder that a GGUF file's metadata describes. An "output.weight" among `tensors` means an output head of its
// own; the rows of "token_embd.weight" are the vocabulary where no key states it.
// Throws ErrorKind::config with `where` first.
Config config_from_gguf(const GgufMetadata& metadata, const std::vector<StoredTensor>& tensors,
                        const std::string& where);

// The decoder that a config.json describes; of a multimodal Gemma 3 its text decoder.
// Throws ErrorKind::config with `where` first.
Config config_from_huggingface(const Json& data, const std::string& where);

// Whether a table of texts has this one.
bool has_text(std::span<const std::string_view> texts, std::string_view text);
// The fields that a family fixes.
void apply_traits(Config& config, const tables::Traits& traits);
// Layer types in which the last layer of each `period` (at least 1) has full attention.
std::vector<LayerType> periodic_layer_types(int64_t num_layers, int64_t period);

}  // namespace gemcut
