// The GGUF reader.
#include "formats/gguf.h"

#include <algorithm>
#include <unordered_set>

#include "formats/checked_arithmetic.h"
#include "formats/gguf_header.h"
#include "formats/json.h"
#include "formats/message.h"
#include "formats/tables.h"

namespace gemcut {

namespace {

using Kind = GgufValue::Kind;

// Named texts for messages cost memory; they are made only when a read fails.
#define GEMCUT_WHAT(...) [&]() -> std::string { return message(__VA_ARGS__); }

uint64_t take_count(GgufHeader& header, std::string_view what, uint64_t limit) {
  const auto value = header.scalar<uint64_t>(GEMCUT_WHAT("the ", what));
  if (value > limit)
    header.refuse(message("claims a ", what, " of ", value, ", expected at most ", limit, ". It is damaged."));
  return value;
}

struct Preamble {
  uint64_t num_tensors, num_keys;
};

Preamble read_preamble(GgufHeader& header) {
  const std::string_view magic = header.take(4, GEMCUT_WHAT("the magic"));
  if (magic != "GGUF")
    header.refuse(message("begins with ", quoted(is_utf8(magic) ? magic : "bytes that are no text"),
                          ", expected \"GGUF\". This is not a GGUF file."));
  const auto version = header.scalar<uint32_t>(GEMCUT_WHAT("the version"));
  if (version != 2 && version != 3) {
    const uint32_t swapped = __builtin_bswap32(version);
    if (swapped == 2 || swapped == 3)
      header.refuse("is a big-endian GGUF file, expected little-endian. Convert it again.");
    header.refuse(message("is GGUF version ", version, ", expected 2 or 3. Convert the model again."));
  }
  const uint64_t num_tensors = take_count(header, "number of tensors", tables::kMaxTensors);
  return {num_tensors, take_count(header, "number of metadata keys", tables::kMaxKeys)};
}

void read_texts(GgufHeader& header, GgufValue& value, std::string_view key) {
  // A text takes 8 bytes at least, so that no more of them are believed in than the file can hold.
  value.texts.reserve(std::min<uint64_t>(value.count, header.bytes_left() / 8));
  for (size_t i = 0; i < value.count; ++i)
    value.texts.push_back(header.text(GEMCUT_WHAT("item ", i, " of ", quoted(key))));
}

void read_array(GgufHeader& header, GgufValue& value, std::string_view key) {
  const auto number = header.scalar<uint32_t>(GEMCUT_WHAT("the item type of ", quoted(key)));
  value.item_kind = static_cast<Kind>(number);
  value.count = take_count(header, message("length of the array ", quoted(key)), header.items_left);
  header.items_left -= value.count;
  if (value.item_kind == Kind::text) return read_texts(header, value, key);
  const size_t item_bytes = scalar_bytes(value.item_kind);
  if (item_bytes == 0)
    header.refuse(message(quoted(key), " is an array of type ", number, ", expected numbers, booleans or text. "
                          "Arrays in arrays are not used by any model."));
  value.raw = header.take(value.count * item_bytes, GEMCUT_WHAT("the array ", quoted(key)));
}

GgufValue read_value(GgufHeader& header, std::string_view key) {
  GgufValue value;
  const auto number = header.scalar<uint32_t>(GEMCUT_WHAT("the type of ", quoted(key)));
  value.kind = static_cast<Kind>(number);
  const auto what = GEMCUT_WHAT("the value of ", quoted(key));
  if (value.kind == Kind::text) {
    value.text = header.text(what);
  } else if (value.kind == Kind::array) {
    read_array(header, value, key);
  } else {
    const size_t num_bytes = scalar_bytes(value.kind);
    if (num_bytes == 0)
      header.refuse(message(quoted(key), " has value type ", number, ", expected 0 to 12. The file is damaged."));
    GgufValue one;
    one.item_kind = value.kind;
    one.raw = header.take(num_bytes, what);
    value.bits = one.item(0).bits;
  }
  return value;
}

GgufMetadata read_metadata(GgufHeader& header, uint64_t num_keys) {
  GgufMetadata metadata;
  std::unordered_set<std::string_view> seen;
  for (uint64_t number = 0; number < num_keys; ++number) {
    const std::string_view key = header.text(GEMCUT_WHAT("metadata key ", number), tables::kMaxKeyBytes);
    if (!seen.insert(key).second)
      header.refuse(message("metadata key ", quoted(key), " occurs twice. The file is damaged."));
    metadata.add(key, read_value(header, key));
  }
  return metadata;
}

struct TensorInfo {
  std::string_view name;
  std::vector<int64_t> shape;
  uint32_t type;
  uint64_t offset;
};

TensorInfo read_tensor_info(GgufHeader& header, uint64_t number) {
  TensorInfo info;
  info.name = header.text(GEMCUT_WHAT("the name of tensor ", number), tables::kMaxKeyBytes);
  const auto num_dimensions = header.scalar<uint32_t>(GEMCUT_WHAT("the number of dimensions of ", quoted(info.name)));
  if (num_dimensions < 1 || num_dimensions > tables::kMaxDimensions)
    header.refuse(message("claims a number of dimensions of ", quoted(info.name), " of ", num_dimensions,
                          ", expected 1 to ", tables::kMaxDimensions, ". It is damaged."));
  for (uint32_t i = 0; i < num_dimensions; ++i) {
    const auto size = header.scalar<uint64_t>(GEMCUT_WHAT("the shape of ", quoted(info.name)));
    if (size == 0 || size > INT64_MAX)
      header.refuse(message(quoted(info.name), " has a dimension of ", size,
                            ", expected 1 to 4 numbers above 0 and below 2^63. It is damaged."));
    info.shape.insert(info.shape.begin(), static_cast<int64_t>(size));
  }
  info.type = header.scalar<uint32_t>(GEMCUT_WHAT("the type of ", quoted(info.name)));
  info.offset = header.scalar<uint64_t>(GEMCUT_WHAT("the offset of ", quoted(info.name)));
  return info;
}

uint64_t alignment_of(const GgufMetadata& metadata, const GgufHeader& header) {
  const GgufValue* value = metadata.find("general.alignment");
  if (!value) return 32;
  const int64_t alignment = value->whole().value_or(0);
  if (alignment < 1 || alignment > tables::kMaxAlignment || (alignment & (alignment - 1)))
    header.refuse(message("general.alignment is ", value->shown(40), ", expected a power of two up to ",
                          tables::kMaxAlignment, "."));
  return static_cast<uint64_t>(alignment);
}

const tables::GgmlType* ggml_type(uint32_t number) {
  const auto* found = std::find_if(std::begin(tables::kGgmlTypes), std::end(tables::kGgmlTypes),
                                   [number](const tables::GgmlType& row) { return row.number == number; });
  return found == std::end(tables::kGgmlTypes) ? nullptr : found;
}

StoredTensor place(const TensorInfo& info, uint64_t start, uint64_t file_bytes, const GgufHeader& header) {
  StoredTensor tensor;
  tensor.name = info.name;
  tensor.shape = info.shape;
  const tables::GgmlType* type = ggml_type(info.type);
  if (!type) {
    tensor.type_name = message("ggml type ", info.type);
    return tensor;
  }
  tensor.type_name = type->name;
  tensor.type = type_named(tensor.type_name);
  if (info.shape.back() % type->block_values)
    header.refuse(message(quoted(info.name), " has rows of ", info.shape.back(), " numbers, expected a multiple of ",
                          type->block_values, " for ", type->name, "."));
  std::vector<int64_t> blocks = info.shape;
  blocks.back() /= type->block_values;
  const auto num_blocks = checked_product(blocks);
  const auto num_bytes =
      num_blocks ? checked_multiply(*num_blocks, static_cast<uint64_t>(type->block_bytes)) : std::nullopt;
  const auto begin = checked_add(start, info.offset);
  const auto end = begin && num_bytes ? checked_add(*begin, *num_bytes) : std::nullopt;
  if (!end || *end > file_bytes)
    header.refuse(message(quoted(info.name), " ends at byte ", end ? std::to_string(*end) : "2^64 or more",
                          ", the file has ", file_bytes, ". The file is cut short or damaged. Get it again."));
  tensor.offset = *begin;
  tensor.num_bytes = *num_bytes;
  return tensor;
}

void refuse_overlaps(const std::vector<StoredTensor>& tensors, const GgufHeader& header) {
  std::vector<const StoredTensor*> sorted;
  for (const StoredTensor& tensor : tensors)
    if (tensor.num_bytes) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i]->offset < sorted[i - 1]->offset + sorted[i - 1]->num_bytes)
      header.refuse(message(quoted(sorted[i - 1]->name), " and ", quoted(sorted[i]->name),
                            " overlap. The file is damaged."));
}

struct Part {
  GgufMetadata metadata;
  std::vector<StoredTensor> tensors;
  uint64_t header_bytes = 0;
  std::vector<std::unique_ptr<char[]>> blocks;
};

Part read_part(const MappedFile& file) {
  GgufHeader header(file, file.name());
  header.items_left = tables::kMaxArrayItems;
  Part part;
  const Preamble preamble = read_preamble(header);
  part.metadata = read_metadata(header, preamble.num_keys);
  const uint64_t alignment = alignment_of(part.metadata, header);
  std::vector<TensorInfo> infos;
  for (uint64_t number = 0; number < preamble.num_tensors; ++number)
    infos.push_back(read_tensor_info(header, number));
  part.header_bytes = header.position();
  // The position is at most the file's size, so that this cannot overflow.
  const uint64_t start = (header.position() + alignment - 1) / alignment * alignment;
  std::unordered_set<std::string_view> seen;
  for (const TensorInfo& info : infos) {
    if (!seen.insert(info.name).second)
      header.refuse(message("tensor ", quoted(info.name), " occurs twice. The file is damaged."));
    if (info.offset % alignment)
      header.refuse(message(quoted(info.name), " lies at offset ", info.offset, ", expected a multiple of ", alignment,
                            "."));
    part.tensors.push_back(place(info, start, file.size(), header));
  }
  refuse_overlaps(part.tensors, header);
  part.blocks = header.release();
  return part;
}

// Whether a key holds this number; missing counts as `otherwise`.
bool says(const GgufMetadata& metadata, std::string_view key, double wanted, double otherwise) {
  const GgufValue* value = metadata.find(key);
  const auto number = value ? value->number() : otherwise;
  return number && *number == wanted;
}

void check_part(const GgufMetadata& metadata, size_t number, size_t count, const std::string& where) {
  const bool counted = says(metadata, "split.count", static_cast<double>(count), 1) ||
                       (count == 1 && says(metadata, "split.count", 0, 0));
  if (counted && says(metadata, "split.no", static_cast<double>(number), 0)) return;
  const auto shown = [&](const char* key, const char* otherwise) {
    const GgufValue* value = metadata.find(key);
    return value ? value->shown(20) : std::string(otherwise);
  };
  throw Error(ErrorKind::checkpoint,
              message("[formats.gguf] ", where, ": says that it is part ", shown("split.no", "0"), " of ",
                      shown("split.count", "1"), ", expected part ", number, " of ", count,
                      " (counted from 0). Keep the names that the parts came with."));
}

}  // namespace

const GgufValue* GgufMetadata::find(std::string_view key) const {
  for (const auto& [name, value] : entries_)
    if (name == key) return &value;
  return nullptr;
}

std::vector<std::string_view> GgufMetadata::take_texts(std::string_view key) {
  for (auto& [name, value] : entries_) {
    if (name != key || !value.is_array()) continue;
    value.count = 0;
    return std::move(value.texts);
  }
  return {};
}

std::optional<std::string_view> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value || value->kind != Kind::text) return std::nullopt;
  return value->text;
}

std::vector<std::string> split_files(const std::string& path) {
  // "NAME-00001-of-00003.gguf": 20 characters after the name.
  constexpr size_t kSuffix = 20, kDigits = 5;
  const size_t name_begin = path.find_last_of('/') + 1;
  if (path.size() - name_begin <= kSuffix) return {path};
  const size_t begin = path.size() - kSuffix;
  const std::string_view suffix = std::string_view(path).substr(begin);
  const auto number = [&suffix](size_t from) {
    int value = 0;
    for (const char c : suffix.substr(from, kDigits)) {
      const bool is_digit = c >= '0' && c <= '9';
      value = is_digit && value >= 0 ? value * 10 + c - '0' : -1;
    }
    return value;
  };
  const bool split = suffix[0] == '-' && suffix.substr(6, 4) == "-of-" && suffix.substr(15) == ".gguf";
  const int count = split ? number(10) : -1;
  if (count < 0 || number(1) < 0) return {path};
  std::vector<std::string> files;
  for (int i = 1; i <= count; ++i) {
    const std::string digits = std::to_string(i);
    files.push_back(path.substr(0, begin + 1) + std::string(kDigits - digits.size(), '0') + digits +
                    std::string(suffix.substr(6)));
  }
  return files;
}

GgufModel read_gguf(const std::string& path) {
  GgufModel model;
  const std::vector<std::string> files = split_files(path);
  if (files.empty())
    throw Error(ErrorKind::checkpoint,
                message("[formats.gguf] ", path, ": is named as one of 0 parts, expected at least 1. Rename it."));
  for (size_t number = 0; number < files.size(); ++number) {
    const auto file = std::make_shared<const MappedFile>(files[number]);
    Part part = read_part(*file);
    check_part(part.metadata, number, files.size(), file->name());
    if (number == 0) model.metadata = std::move(part.metadata);
    for (StoredTensor& tensor : part.tensors) {
      tensor.file = number;
      model.stored.tensors.push_back(std::move(tensor));
    }
    model.stored.files.push_back(file);
    model.stored.header_bytes.push_back(part.header_bytes);
    std::move(part.blocks.begin(), part.blocks.end(), std::back_inserter(model.header_blocks));
  }
  refuse_duplicates(model.stored);
  const auto num_tensors = static_cast<double>(model.stored.tensors.size());
  if (files.size() > 1 && !says(model.metadata, "split.tensors.count", num_tensors, num_tensors))
    throw Error(ErrorKind::checkpoint,
                message("[formats.gguf] ", model.stored.files[0]->name(), ": its parts hold ", num_tensors,
                        " tensors, expected ", model.metadata.find("split.tensors.count")->shown(),
                            ". Get them again."));
  return model;
}

}  // namespace gemcut
