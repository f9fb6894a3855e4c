// JSON as it stands in checkpoints: strict, in UTF-8, limited in depth and in number of values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/error.h"

namespace gemcut {

// One value. Objects keep the order of their keys.
class Json {
 public:
  enum class Kind : uint8_t { null, boolean, integer, number, text, array, object };

  // Parses a whole document. Python: gemcut.files.parse_json.
  // Throws an Error of `kind` with `where` first: not JSON, not UTF-8, nested deeper than 128, a key twice, a lone
  // surrogate, or more than 2,097,152 values.
  static Json parse(std::string_view text, const std::string& where, ErrorKind kind);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const { return kind_ == Kind::integer || kind_ == Kind::number; }
  bool boolean() const { return integer_ != 0; }       // of Kind::boolean
  int64_t integer() const { return integer_; }         // of Kind::integer; whole numbers beyond it are Kind::number
  double number() const;                               // of integer and number; beyond a double: infinite
  const std::string& text() const { return text_; }    // of Kind::text
  const std::vector<Json>& items() const { return items_; }         // of array, and an object's values
  const std::vector<std::string>& keys() const { return keys_; }    // of object
  // The value of a key; null where this is no object or has no such key.
  const Json* find(std::string_view key) const;
  // As JSON text, cut to `max_bytes` for messages.
  std::string shown(size_t max_bytes = 80) const;

 private:
  friend class JsonParser;
  void write(std::string& out, size_t max_bytes) const;

  Kind kind_ = Kind::null;
  int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::vector<std::string> keys_;
  std::vector<Json> items_;
};

// Whether bytes are UTF-8: no surrogates, no overlong forms, nothing above U+10FFFF.
bool is_utf8(std::string_view text);
// A text as JSON, quotes included.
std::string json_text(std::string_view text);
// A number in the fewest digits that give it back; "null" where it is not finite.
std::string json_number(double value);

}  // namespace gemcut
