// Matching of stored tensors with the decoder's.
#include "formats/names.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "formats/checked_arithmetic.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

using tables::Axis;

const std::string_view kEmbedding = tables::kModelTensors[0], kFinalNorm = tables::kModelTensors[1],
                       kOutputHead = tables::kModelTensors[2];

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::checkpoint, message("[formats.names] ", where, ": ", what));
}

struct AxisSize {
  int64_t size;
  const char* symbol;
};

// All sizes that a shape can have, checked once.
class Axes {
 public:
  Axes(const Config& config, const std::string& where) : config_(config) {
    const auto product = [&](int64_t heads) {
      int64_t rows = 0;
      if (__builtin_mul_overflow(heads, config.head_dim, &rows) || rows > kLargest)
        throw Error(ErrorKind::config, message("[formats.names] ", where, ": ", heads, " heads of ", config.head_dim,
                                               " numbers are more than any model has. Correct the configuration."));
      return rows;
    };
    query_rows_ = product(config.num_attention_heads);
    kv_rows_ = product(config.num_key_value_heads);
  }

  AxisSize operator[](Axis axis) const {
    switch (axis) {
      case Axis::vocab: return {config_.vocab_size, "vocab_size"};
      case Axis::hidden: return {config_.hidden_size, "hidden_size"};
      case Axis::intermediate: return {config_.intermediate_size, "intermediate_size"};
      case Axis::query_rows: return {query_rows_, "num_attention_heads * head_dim"};
      case Axis::kv_rows: return {kv_rows_, "num_key_value_heads * head_dim"};
      case Axis::head: return {config_.head_dim, "head_dim"};
      case Axis::none: break;
    }
    return {1, "1"};
  }

 private:
  static constexpr int64_t kLargest = int64_t{1} << 62;
  const Config& config_;
  int64_t query_rows_ = 0, kv_rows_ = 0;
};

Parameter parameter(std::string name, const Axes& axes, Axis rows, Axis columns) {
  Parameter result{std::move(name), {axes[rows].size}, axes[rows].symbol};
  if (columns == Axis::none) return result;
  result.shape.push_back(axes[columns].size);
  result.symbols += std::string(", ") + axes[columns].symbol;
  return result;
}

std::optional<std::string_view> renamed(std::span<const tables::Rename> table, std::string_view name) {
  for (const tables::Rename& row : table)
    if (row.theirs == name) return row.ours;
  return std::nullopt;
}

// Where a stored tensor belongs; `reason` is set where it is none of the decoder's.
struct Place {
  std::string name, reason;
  Transform transform = Transform::none;
};

bool is_rotary_buffer(std::string_view name) {
  for (const std::string_view ending : {"rotary_emb.inv_freq", "rotary_emb_local.inv_freq"}) {
    if (!name.ends_with(ending)) continue;
    const std::string_view before = name.substr(0, name.size() - ending.size());
    if (before.empty() || before.ends_with('.')) return true;
  }
  return false;
}

// Hugging Face: a prefix, then our name.
Place place_huggingface(const std::string& name) {
  if (is_rotary_buffer(name)) return {"", "follows from the configuration"};
  for (const tables::Rename& tower : tables::kHfTowers)
    if (name.starts_with(tower.theirs)) return {"", std::string(tower.ours)};
  for (const tables::Rename& prefix : tables::kHfPrefixes)
    if (name.starts_with(prefix.theirs)) return {std::string(prefix.ours) + name.substr(prefix.theirs.size()), ""};
  return {name, ""};
}

// Our name of a GGUF layer's tensor; nothing where no table has it.
std::optional<std::string> gguf_layer_name(const std::string& name, const Config& config) {
  if (!name.starts_with("blk.")) return std::nullopt;
  const size_t end = name.find_first_not_of("0123456789", 4);
  if (end == name.npos || end == 4 || name[end] != '.') return std::nullopt;
  const std::string_view rest = std::string_view(name).substr(end + 1);
  auto ours = renamed(tables::kGgufLayer, rest);
  if (!ours && config.post_norms) ours = renamed(tables::kGgufPostNorms, rest);
  if (!ours && !config.post_norms) ours = renamed(tables::kGgufPlainNorms, rest);
  if (!ours) return std::nullopt;
  return "model.layers." + name.substr(4, end - 4) + "." + std::string(*ours);
}

// GGUF: short names; 1 + w in the norms of Gemma; Llama's queries and keys in adjacent pairs.
Place place_gguf(const std::string& name, const Config& config) {
  Place place;
  if (const auto global = renamed(tables::kGgufGlobals, name)) {
    place.name = *global;
  } else if (const auto layer = gguf_layer_name(name, config)) {
    place.name = *layer;
  } else {
    return {name, ""};
  }
  if (config.norm_unit_offset) {
    if (place.name.find("norm") != place.name.npos) place.transform = Transform::minus_one;
  } else if (place.name.ends_with("self_attn.q_proj.weight")) {
    place.transform = Transform::unpermute_query;
  } else if (place.name.ends_with("self_attn.k_proj.weight")) {
    place.transform = Transform::unpermute_key;
  }
  return place;
}

// Rows of a stored tensor that pad a vocabulary; throws where the shape is another.
int64_t padding_rows(const StoredTensor& stored, const Parameter& wanted, const std::string& file) {
  if (stored.shape == wanted.shape) return 0;
  const bool is_vocabulary = wanted.name == kEmbedding || wanted.name == kOutputHead;
  if (is_vocabulary && stored.shape.size() == 2 && stored.shape[1] == wanted.shape[1]) {
    const int64_t extra = stored.shape[0] - wanted.shape[0];
    if (extra > 0 && extra <= tables::kMaxPaddingRows) return extra;
  }
  refuse(file, message(quoted(stored.name), " is ", shape_text(stored.shape), ", expected ", shape_text(wanted.shape),
                       " = (", wanted.symbols, "). Pass the config that came with these weights."));
}

// The stored rows that are one of our tensors. Sizes cannot overflow: the reader compared them with the file's.
Tensor make_tensor(const StoredTensor& stored, const Parameter& wanted, Transform transform, const MappedFile& file) {
  Tensor tensor;
  tensor.name = wanted.name;
  tensor.source = stored.name;
  tensor.type = *stored.type;
  tensor.rows = wanted.shape.size() > 1 ? wanted.shape[0] : 1;
  tensor.columns = wanted.shape.back();
  tensor.transform = transform;
  tensor.file = stored.file;
  tensor.file_offset = stored.offset;
  const TypeTraits& traits = type_traits(tensor.type);
  tensor.num_bytes = static_cast<size_t>(tensor.rows * (tensor.columns / traits.block_values) * traits.block_bytes);
  tensor.data = file.data() + stored.offset;
  return tensor;
}

// Fills in the result tensor by tensor.
class Matcher {
 public:
  Matcher(const StoredModel& model, const Config& config, const std::string& where)
      : model_(model), config_(config), where_(where), wanted_(parameters(config, where)) {
    for (const Parameter& entry : wanted_) by_name_[entry.name] = &entry;
  }

  void add(const StoredTensor& stored, const Place& place) {
    if (!place.reason.empty()) {
      result_.unused.emplace_back(stored.name, place.reason);
    } else if (place.name == kOutputHead && config_.tie_word_embeddings) {
      result_.unused.emplace_back(stored.name, "a copy of the embedding, which is the output head");
    } else {
      use(stored, place);
    }
  }

  MatchedTensors finish() {
    size_t num_missing = 0;
    std::string first;
    for (const Parameter& entry : wanted_)
      if (!result_.tensors.contains(entry.name) && ++num_missing == 1) first = entry.name;
    if (num_missing)
      refuse(where_, message(num_missing, " of ", wanted_.size(), " tensors are missing, the first is ", first,
                             ". The checkpoint is incomplete, or its config belongs to another model."));
    return std::move(result_);
  }

 private:
  void use(const StoredTensor& stored, const Place& place) {
    const MappedFile& file = *model_.files[stored.file];
    const auto found = by_name_.find(place.name);
    if (found == by_name_.end())
      refuse(where_, message(quoted(stored.name), " has no place in a ", config_.model_type, " decoder of ",
                             config_.num_hidden_layers, " layers. Pass the config that came with these weights."));
    const Parameter& wanted = *found->second;
    if (const auto first = result_.tensors.find(wanted.name); first != result_.tensors.end())
      refuse(where_, message(quoted(stored.name), " and ", quoted(first->second.source), " are both ", wanted.name,
                             ", expected one. Remove one of them."));
    if (!stored.type)
      refuse(file.name(), message(quoted(stored.name), " is stored as ", stored.type_name, ", expected one of ",
                                  readable_types(), ". Get the model in one of these types."));
    if (const int64_t extra = padding_rows(stored, wanted, file.name())) {
      const int64_t first = wanted.shape[0];
      result_.unused.emplace_back(message(stored.name, "[", first, ":", first + extra, "]"),
                                  "rows above vocab_size, padding");
    }
    result_.tensors[wanted.name] = make_tensor(stored, wanted, place.transform, file);
  }

  const StoredModel& model_;
  const Config& config_;
  const std::string& where_;
  std::vector<Parameter> wanted_;
  std::unordered_map<std::string_view, const Parameter*> by_name_;
  MatchedTensors result_;
};

}  // namespace

std::vector<Parameter> parameters(const Config& config, const std::string& where) {
  const Axes axes(config, where);
  std::vector<Parameter> result;
  result.push_back(parameter(std::string(kEmbedding), axes, Axis::vocab, Axis::hidden));
  for (int64_t index = 0; index < config.num_hidden_layers; ++index)
    for (const tables::LayerTensor& row : tables::kLayerTensors)
      if ((config.qk_norm || !row.needs_qk_norm) && (config.post_norms || !row.needs_post_norms))
        result.push_back(parameter(message("model.layers.", index, ".", row.name), axes, row.rows, row.columns));
  result.push_back(parameter(std::string(kFinalNorm), axes, Axis::hidden, Axis::none));
  if (!config.tie_word_embeddings)
    result.push_back(parameter(std::string(kOutputHead), axes, Axis::vocab, Axis::hidden));
  return result;
}

MatchedTensors match_tensors(const StoredModel& model, Naming naming, const Config& config, const std::string& where) {
  Matcher matcher(model, config, where);
  for (const StoredTensor& stored : model.tensors)
    matcher.add(stored, naming == Naming::gguf ? place_gguf(stored.name, config) : place_huggingface(stored.name));
  return matcher.finish();
}

}  // namespace gemcut
