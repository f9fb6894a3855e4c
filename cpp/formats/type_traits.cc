// The types that are computed with, out of the table of ggml's types; and what stored tensors say of themselves.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "formats/message.h"
#include "formats/stored_tensor.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

constexpr TensorType kReadable[] = {
    TensorType::f32,  TensorType::f16,  TensorType::q4_0, TensorType::q4_1, TensorType::q5_0,
    TensorType::q5_1, TensorType::q8_0, TensorType::q2_k, TensorType::q3_k, TensorType::q4_k,
    TensorType::q5_k, TensorType::q6_k, TensorType::iq4_nl, TensorType::iq4_xs, TensorType::bf16,
};

const std::map<TensorType, TypeTraits>& readable() {
  static const std::map<TensorType, TypeTraits> traits = [] {
    std::map<TensorType, TypeTraits> result;
    for (const tables::GgmlType& row : tables::kGgmlTypes)
      if (const auto type = static_cast<TensorType>(row.number);
          std::find(std::begin(kReadable), std::end(kReadable), type) != std::end(kReadable))
        result[type] = {row.name, row.block_values, row.block_bytes};
    return result;
  }();
  return traits;
}

}  // namespace

const TypeTraits& type_traits(TensorType type) {
  const auto found = readable().find(type);
  if (found == readable().end())
    throw Error(ErrorKind::checkpoint,
                message("[formats.type_traits] type ", static_cast<uint32_t>(type), " is not computed with, expected ",
                        "one of ", readable_types(), ". Get the model in one of these types."));
  return found->second;
}

std::optional<TensorType> type_named(const std::string& name) {
  for (const auto& [type, traits] : readable())
    if (name == traits.name) return type;
  return std::nullopt;
}

std::string readable_types() {
  std::vector<std::string> names;
  for (const auto& entry : readable()) names.emplace_back(entry.second.name);
  std::sort(names.begin(), names.end());
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + ")";
}

void refuse_duplicates(const StoredModel& model) {
  std::unordered_map<std::string_view, const StoredTensor*> seen;
  for (const StoredTensor& tensor : model.tensors) {
    const auto [first, is_new] = seen.emplace(tensor.name, &tensor);
    if (!is_new)
      throw Error(ErrorKind::checkpoint,
                  message("[formats.stored_tensor] ", model.files[tensor.file]->name(), ": ", quoted(tensor.name),
                          " is also in ", model.files[first->second->file]->name(),
                          ", expected each tensor once. The files do not belong together."));
  }
}

}  // namespace gemcut
