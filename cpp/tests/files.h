// Files that tests make: a folder of their own, bytes in order, small GGUF and safetensors models.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/error.h"

namespace gemcut::testing {

// A new folder, removed with all it holds when it goes out of scope. Its path ends in "/".
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  // Writes a file into it; its path.
  std::string write(const std::string& name, std::string_view bytes) const;

 private:
  std::string path_;
};

// A file of cpp/tests/data; throws where it is missing.
std::string test_data(const std::string& name);

// Bytes one after the other, little-endian.
class Bytes {
 public:
  template <class Number>
  Bytes& add(Number number) {
    char raw[sizeof number];
    std::memcpy(raw, &number, sizeof number);
    text_.append(raw, sizeof raw);
    return *this;
  }
  Bytes& raw(std::string_view text) { text_ += text; return *this; }
  // A text with its length before it, as GGUF has it.
  Bytes& text(std::string_view text) { return add<uint64_t>(text.size()).raw(text); }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

// A GGUF file, part by part; `str` puts them together.
struct GgufBytes {
  uint32_t version = 3;
  std::vector<std::pair<std::string, std::string>> keys;  // name; type and value as bytes
  struct Entry {
    std::string name;
    std::vector<uint64_t> sizes;  // innermost first, as in the file
    uint32_t type;
    uint64_t offset;
  };
  std::vector<Entry> tensors;
  std::string data;

  GgufBytes& key(const std::string& name, uint32_t value);
  GgufBytes& key(const std::string& name, float value);
  GgufBytes& key(const std::string& name, const std::string& value);
  // A vocabulary of these pieces.
  GgufBytes& vocabulary(const std::vector<std::string>& pieces);
  // A tensor of float32 with these sizes (outermost first) after those that are there, all numbers `value`.
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& sizes, float value = 0.5f);
  std::string str() const;
};

// A tiny Gemma 1 of one layer (D 4, F 8, N 2, K 1, H 2, V 6) that Checkpoint::open takes.
GgufBytes tiny_gguf();

// A safetensors file of float32 tensors (name, sizes), all numbers 0.25.
std::string safetensors_bytes(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors);
// The same model in Hugging Face's names, and its config.json.
std::vector<std::pair<std::string, std::vector<int64_t>>> tiny_tensors();
std::string tiny_config();

}  // namespace gemcut::testing
