// Reading safetensors: one file, or shards with an index; every number of a header is checked against the file.
// Equals src/gemcut/checkpoint/safetensors_file.py.
#pragma once

#include <string>

#include "formats/stored_tensor.h"

namespace gemcut {

// The tensors of a .safetensors file, or of all shards that an index (*.index.json) names.
// Throws Error: not_found; checkpoint for a damaged file, or a tensor that is not where the index says.
StoredModel read_safetensors(const std::string& path);

}  // namespace gemcut
