// The safetensors reader.
#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_map>

#include "formats/checked_arithmetic.h"
#include "formats/json.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxDimensions = 64;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::checkpoint, message("[formats.safetensors] ", where, ": ", what));
}

// Bytes of the header, its length included; it is read into `text`.
uint64_t read_header(const MappedFile& file, std::string& text) {
  if (file.size() < 8)
    refuse(file.name(), message("is ", file.size(), " bytes, expected at least 8. The file is cut short."));
  uint64_t header_bytes = 0;
  file.read_at(0, 8, &header_bytes);
  if (header_bytes > static_cast<uint64_t>(tables::kMaxHeaderBytes))
    refuse(file.name(), message("claims a header of ", header_bytes, " bytes, expected at most ",
                                tables::kMaxHeaderBytes, ". This is not a safetensors file, or it is damaged."));
  if (header_bytes > file.size() - 8)
    refuse(file.name(), message("its header needs ", 8 + header_bytes, " bytes, the file has ", file.size(),
                                ". The file is cut short."));
  text.resize(header_bytes);
  file.read_at(8, header_bytes, text.data());
  return 8 + header_bytes;
}

void check_metadata(const Json& metadata, const std::string& where) {
  const auto is_text = [](const Json& value) { return value.is(Json::Kind::text); };
  if (!metadata.is(Json::Kind::object) || !std::all_of(metadata.items().begin(), metadata.items().end(), is_text))
    refuse(where, "__metadata__ is not a mapping from text to text. The file is damaged.");
}

bool are_sizes(const Json& list) {
  return list.is(Json::Kind::array) && std::all_of(list.items().begin(), list.items().end(), [](const Json& value) {
    return value.is(Json::Kind::integer) && value.integer() >= 0;
  });
}

// One tensor with its type, shape and byte range in the data, checked against one another.
StoredTensor read_entry(const std::string& name, const Json& entry, const std::string& where) {
  const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
  if (!entry.is(Json::Kind::object) || entry.keys().size() != 3 || !dtype || !shape || !offsets)
    refuse(where, message("the entry of ", quoted(name), " is not {dtype, shape, data_offsets}. The file is damaged."));
  const tables::SafetensorsType* type = nullptr;
  std::string known;
  for (const tables::SafetensorsType& row : tables::kSafetensorsTypes) {
    if (dtype->is(Json::Kind::text) && dtype->text() == row.name) type = &row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  if (!type) refuse(where, message(quoted(name), " has dtype ", dtype->shown(40), ", expected one of ", known, "."));
  if (!are_sizes(*shape) || shape->items().size() > kMaxDimensions)
    refuse(where, message(quoted(name), " has shape ", shape->shown(), ", expected a list of sizes."));
  if (!are_sizes(*offsets) || offsets->items().size() != 2)
    refuse(where, message(quoted(name), " has data_offsets ", offsets->shown(), ", expected [begin, end]."));
  StoredTensor tensor;
  tensor.name = name;
  for (const Json& size : shape->items()) tensor.shape.push_back(size.integer());
  tensor.type_name = type->name;
  tensor.type = type_named(tensor.type_name);
  const int64_t begin = offsets->items()[0].integer(), held = offsets->items()[1].integer() - begin;
  const auto count = checked_product(tensor.shape);
  const auto wanted = count ? checked_multiply(*count, type->num_bytes) : std::nullopt;
  if (!wanted || held < 0 || static_cast<uint64_t>(held) != *wanted)
    refuse(where, message(quoted(name), " holds ", held, " bytes, expected ",
                          wanted ? std::to_string(*wanted) : "more than 2^64", " for ", type->name, " of shape ",
                          shape_text(tensor.shape), ". The file is damaged."));
  tensor.offset = static_cast<uint64_t>(begin);
  tensor.num_bytes = *wanted;
  return tensor;
}

// The format's rule: the tensors fill the data without a gap, an overlap or a rest.
void check_offsets(const std::vector<StoredTensor>& tensors, uint64_t data_bytes, const std::string& where) {
  std::vector<const StoredTensor*> sorted;
  for (const StoredTensor& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return std::pair(a->offset, a->num_bytes) < std::pair(b->offset, b->num_bytes);
  });
  uint64_t position = 0;
  std::string before = "the header";
  for (const StoredTensor* tensor : sorted) {
    if (tensor->offset != position)
      refuse(where, message(quoted(tensor->name), " begins at byte ", tensor->offset, " of the data and ",
                            tensor->offset < position ? "overlaps " : "leaves a gap after ", before, ", which ends at ",
                            position, ". The file is damaged."));
    position = tensor->offset + tensor->num_bytes;  // offset + bytes was a JSON integer, so this fits
    before = quoted(tensor->name);
  }
  if (position != data_bytes)
    refuse(where, message("its tensors need ", position, " bytes, the file has ", data_bytes, ". ",
                          position > data_bytes ? "The file is cut short." : "The rest belongs to no tensor."));
}

// Adds one file's tensors to the model's.
void read_file_into(StoredModel& model, const std::string& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  std::string text;
  const uint64_t start = read_header(*file, text);
  const Json header = Json::parse(text, file->name() + ": header", ErrorKind::checkpoint);
  if (!header.is(Json::Kind::object))
    refuse(file->name(), message("its header is ", header.shown(40), ", expected a JSON object."));
  std::vector<StoredTensor> tensors;
  for (size_t i = 0; i < header.keys().size(); ++i) {
    if (header.keys()[i] == "__metadata__") check_metadata(header.items()[i], file->name());
    else tensors.push_back(read_entry(header.keys()[i], header.items()[i], file->name()));
  }
  check_offsets(tensors, file->size() - start, file->name());
  for (StoredTensor& tensor : tensors) {
    tensor.file = model.files.size();
    tensor.offset += start;
    model.tensors.push_back(std::move(tensor));
  }
  model.files.push_back(file);
  model.header_bytes.push_back(start);
}

struct Index {
  std::vector<std::pair<std::string, std::string>> names;  // (tensor, file)
  std::set<std::string> files;
};

Index read_index(const std::string& path, const std::string& where) {
  const Json data = Json::parse(read_file(path, kMaxIndexBytes, ErrorKind::checkpoint), where, ErrorKind::checkpoint);
  const Json* names = data.find("weight_map");
  if (!names || !names->is(Json::Kind::object) || names->keys().empty())
    refuse(where, "has no \"weight_map\", expected file names by tensor name.");
  Index index;
  for (size_t i = 0; i < names->keys().size(); ++i) {
    const Json& file = names->items()[i];
    const bool plain = file.is(Json::Kind::text) && !file.text().empty() && file.text() != "." && file.text() != ".." &&
                       file.text().find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    if (!plain)
      refuse(where, message(quoted(names->keys()[i]), " is said to be in ", file.shown(),
                            ", expected a file in the same folder."));
    index.names.emplace_back(names->keys()[i], file.text());
    index.files.insert(file.text());
  }
  return index;
}

}  // namespace

StoredModel read_safetensors(const std::string& path) {
  StoredModel model;
  if (!path.ends_with(".json")) {
    read_file_into(model, path);
    return model;
  }
  const std::string folder = path.substr(0, path.find_last_of('/') + 1), where = path.substr(folder.size());
  const Index index = read_index(path, where);
  for (const std::string& file : index.files) read_file_into(model, folder + file);
  std::unordered_map<std::string_view, std::string_view> found;
  for (const StoredTensor& tensor : model.tensors) found.emplace(tensor.name, model.files[tensor.file]->name());
  refuse_duplicates(model);
  for (const auto& [tensor, file] : index.names)
    if (const auto place = found.find(tensor); place == found.end() || place->second != file)
      refuse(file, message("has no ", quoted(tensor), ", which ", where,
                           " says it has. The files do not belong together."));
  return model;
}

}  // namespace gemcut
