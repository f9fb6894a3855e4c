// Reading GGUF versions 2 and 3, whole or split: metadata and where the tensors lie, every claim checked.
// Equals src/gemcut/checkpoint/gguf_file.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/stored_tensor.h"

namespace gemcut {

// One metadata value. Texts and arrays are views that live as long as their GgufModel.
struct GgufValue {
  // Kinds as the file numbers them. Source: the GGUF specification of the ggml project.
  enum class Kind : uint32_t {
    uint8 = 0, int8 = 1, uint16 = 2, int16 = 3, uint32 = 4, int32 = 5, float32 = 6,
    boolean = 7, text = 8, array = 9, uint64 = 10, int64 = 11, float64 = 12,
  };

  Kind kind = Kind::uint8;
  Kind item_kind = Kind::uint8;         // of an array
  uint64_t bits = 0;                    // of a scalar, sign- or zero-extended; a float's own bits as a double
  std::string_view text;                // of a text
  size_t count = 0;                     // of an array
  std::string_view raw;                 // of an array of scalars: its bytes
  std::vector<std::string_view> texts;  // of an array of texts

  bool is_array() const { return kind == Kind::array; }
  // Item `index` of an array of scalars, as a value of its own.
  GgufValue item(size_t index) const;
  // All items of an array of numbers, converted; nothing where it holds something else.
  std::optional<std::vector<float>> floats() const;
  std::optional<std::vector<int64_t>> wholes() const;
  // A whole number that fits; nothing for floats, booleans, texts and arrays.
  std::optional<int64_t> whole() const;
  // Any number; booleans are 1 and 0. Nothing for texts and arrays.
  std::optional<double> number() const;
  bool is_float() const { return kind == Kind::float32 || kind == Kind::float64; }
  // As JSON, for messages and for `inspect`; of a long array the length.
  std::string shown(size_t max_bytes = 80) const;
};

// Bytes of a scalar kind; 0 for texts, arrays and numbers that are no kind.
size_t scalar_bytes(GgufValue::Kind kind);

class GgufMetadata {
 public:
  const GgufValue* find(std::string_view key) const;
  // A key's text; nothing where it is missing or no text.
  std::optional<std::string_view> text(std::string_view key) const;
  // Takes the texts of an array out; it is empty afterwards.
  std::vector<std::string_view> take_texts(std::string_view key);
  const std::vector<std::pair<std::string_view, GgufValue>>& entries() const { return entries_; }
  void add(std::string_view key, GgufValue value) { entries_.emplace_back(key, std::move(value)); }

 private:
  std::vector<std::pair<std::string_view, GgufValue>> entries_;  // in the file's order
};

struct GgufModel {
  StoredModel stored;
  GgufMetadata metadata;  // of the first file
  // What `metadata` refers to: copies of the headers, so that no change of the file can reach them.
  std::vector<std::unique_ptr<char[]>> header_blocks;
};

// The model in a GGUF file; of a split one from the name of any part.
// Throws Error: not_found; checkpoint for a damaged file, or parts that do not belong together.
GgufModel read_gguf(const std::string& path);

// All files of a split GGUF in order, from the path of any of them; of a whole one the file itself.
std::vector<std::string> split_files(const std::string& path);

}  // namespace gemcut
