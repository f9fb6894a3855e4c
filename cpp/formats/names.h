// Names of tensors in each format, and what must be done to a stored tensor to get ours.
// Equals src/gemcut/checkpoint/names.py and src/gemcut/config/parameters.py.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "formats/config.h"
#include "formats/stored_tensor.h"
#include "formats/tensor.h"

namespace gemcut {

enum class Naming : uint8_t { huggingface, gguf };

struct Parameter {
  std::string name;            // ours
  std::vector<int64_t> shape;  // of one or two sizes, matrices as (out, in)
  std::string symbols;         // what the sizes are, in the configuration's words
};

// Every tensor of the model, in the model's order. Throws ErrorKind::config where a size passes 2^62.
std::vector<Parameter> parameters(const Config& config, const std::string& where);

struct MatchedTensors {
  std::map<std::string, Tensor> tensors;                          // by our name
  std::vector<std::pair<std::string, std::string>> unused;        // (name in the file, reason)
};

// Matches a model's stored tensors with the decoder's; `where` is what messages call the checkpoint.
// Throws ErrorKind::checkpoint where one has no place, two have the same, one is missing, or one is of another shape
// or a type that is not computed with.
MatchedTensors match_tensors(const StoredModel& model, Naming naming, const Config& config, const std::string& where);

}  // namespace gemcut
