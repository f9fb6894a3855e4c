// A model on disk: a GGUF file (split ones too) or a Hugging Face folder of safetensors, mapped into memory.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/config.h"
#include "formats/tensor.h"

namespace gemcut {

// A token that the files beside a vocabulary add, or put in the place of a reserved one.
struct AddedToken {
  int64_t token_id = 0;
  std::string piece;
  bool special = false;
};

// The vocabulary's raw material; the views live as long as the Checkpoint.
struct VocabularySource {
  enum class Kind { none, gguf, sentencepiece } kind = Kind::none;
  // Kind::gguf: columns of equal length.
  std::vector<std::string_view> pieces;
  std::vector<float> scores;
  std::vector<int32_t> types;
  bool add_space_prefix = true;
  // Kind::sentencepiece: the bytes of tokenizer.model.
  std::string_view sentencepiece_model;
  // Either: what the metadata or tokenizer_config.json says; -1: says nothing.
  int64_t bos_token_id = -1, eos_token_id = -1, pad_token_id = -1, unknown_token_id = -1;
  bool add_bos = true;
  std::string chat_template;  // Jinja source, empty for none
  // Kind::sentencepiece: what the files beside it say (Python: text.tokenizer_settings.TokenizerSettings).
  std::optional<bool> stated_add_bos;            // nothing: the vocabulary's own habit; add_bos is true then
  bool legacy = true;                            // a space before every stretch of text between special tokens
  std::string bos_token, eos_token, pad_token;   // pieces that play these parts; empty: nothing said
  std::vector<AddedToken> added_tokens;          // in ascending order of id
  // Kind::none: the sentence that says why there is no vocabulary, a whole error message.
  std::string note;
};

class Checkpoint {
 public:
  // Opens a .gguf file, a .safetensors file or a folder. Reads headers only; weights stay on disk until used.
  // Throws Error: not_found, checkpoint, config, tokenizer; messages end with what to do.
  static std::unique_ptr<Checkpoint> open(const std::string& path);
  virtual ~Checkpoint() = default;

  virtual const std::string& path() const = 0;
  virtual const Config& config() const = 0;
  // By canonical name; every tensor the configuration wants is there with the right shape, or open() threw.
  virtual const std::map<std::string, Tensor>& tensors() const = 0;
  virtual const VocabularySource& vocabulary() const = 0;
  // (name in the file, reason) of tensors the decoder does not need.
  virtual const std::vector<std::pair<std::string, std::string>>& unused_tensors() const = 0;
  // GGUF's scalar and short metadata, or config.json's text, for `inspect`: (key, value as JSON).
  virtual const std::vector<std::pair<std::string, std::string>>& metadata() const = 0;
  // Names the exact bytes: sizes, times and inode of the files, their headers and samples of their data. 32 hex digits.
  virtual std::string fingerprint() const = 0;
  // Copies bytes [byte_offset, byte_offset + num_bytes) of a tensor with pread, so that a file that shrinks meanwhile
  // is a named error (ErrorKind::checkpoint) where touching Tensor::data would be the end of the process. Thread-safe.
  virtual void copy(const Tensor& tensor, size_t byte_offset, size_t num_bytes, std::byte* out) const = 0;
  // Throws ErrorKind::checkpoint if a mapped file has changed or shrunk since open() (cheap: one stat a file).
  virtual void check_unchanged() const = 0;
  // Ask the system to drop mapped pages that were read (after packing).
  virtual void release_pages() const = 0;
};

}  // namespace gemcut
