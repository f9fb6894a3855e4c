// A position in the header of a GGUF file; every read is checked against the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mapped_file.h"

namespace gemcut {

// Reads a header front to back with pread into blocks of its own, so that views of it stay whatever becomes of the
// file.
class GgufHeader {
 public:
  // `where` is the file's name for messages.
  GgufHeader(const MappedFile& file, std::string where) : file_(file), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  uint64_t position() const { return position_; }
  uint64_t bytes_left() const { return file_.size() - position_; }
  uint64_t items_left = 0;  // in all arrays together

  // The next `num_bytes` bytes. Throws where the file has fewer; `what` is called only then.
  template <class What>
  std::string_view take(uint64_t num_bytes, What&& what) {
    if (num_bytes > static_cast<uint64_t>(end_ - next_)) {
      if (num_bytes > file_.size() - position_) refuse_short(what(), num_bytes);
      refill(num_bytes);
    }
    const std::string_view result(next_, num_bytes);
    next_ += num_bytes;
    position_ += num_bytes;
    return result;
  }

  template <class Number, class What>
  Number scalar(What&& what) {
    Number value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  // A text with its length before it, in UTF-8.
  template <class What>
  std::string_view text(What&& what, uint64_t max_bytes = UINT64_MAX) {
    const auto num_bytes = scalar<uint64_t>([&] { return "the length of " + what(); });
    if (num_bytes > max_bytes) refuse_long(what(), num_bytes, max_bytes);
    const std::string_view result = take(num_bytes, what);
    if (!is_valid(result)) refuse_bytes(what(), position_ - num_bytes);
    return result;
  }

  [[noreturn]] void refuse(const std::string& what) const;
  // Hands over the memory that all views lie in.
  std::vector<std::unique_ptr<char[]>> release() { return std::move(blocks_); }

 private:
  void refill(uint64_t num_bytes);
  static bool is_valid(std::string_view text);
  [[noreturn]] void refuse_short(const std::string& what, uint64_t num_bytes) const;
  [[noreturn]] void refuse_long(const std::string& what, uint64_t num_bytes, uint64_t max_bytes) const;
  [[noreturn]] void refuse_bytes(const std::string& what, uint64_t begin) const;

  const MappedFile& file_;
  std::string where_;
  uint64_t position_ = 0;
  uint64_t block_bytes_ = 0;  // of the last block
  const char *next_ = nullptr, *end_ = nullptr;
  std::vector<std::unique_ptr<char[]>> blocks_;
};

}  // namespace gemcut
