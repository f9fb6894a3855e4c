// The strict JSON parser and its writer.
#include "formats/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "formats/message.h"

namespace gemcut {

namespace {
constexpr int kMaxDepth = 128;              // real files stay below 10
constexpr size_t kMaxValues = size_t{1} << 21;  // of a safetensors header with 100,000 tensors, 700,000
}  // namespace

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& where, ErrorKind kind)
      : text_(text), where_(where), kind_(kind) {}

  Json document() {
    if (!is_utf8(text_)) refuse("it is not UTF-8");
    Json result = value(0);
    skip_spaces();
    if (position_ != text_.size()) refuse("something follows its end");
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(kind_, message("[formats.json] ", where_, ": is not valid JSON (", why, " at byte ", position_,
                               "). The file is damaged or of another kind. Get it again."));
  }

  char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

  void skip_spaces() {
    while (position_ < text_.size() && std::strchr(" \t\r\n", text_[position_]) && text_[position_]) ++position_;
  }

  void expect(char wanted) {
    if (peek() != wanted || position_ == text_.size()) refuse(std::string("'") + wanted + "' is missing");
    ++position_;
  }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++position_;
    return true;
  }

  bool take_word(std::string_view word) {
    if (text_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) refuse("it is nested too deeply to be real");
    if (++num_values_ > kMaxValues) refuse("it has too many values to be real");
    skip_spaces();
    Json result;
    if (peek() == '{') {
      object(result, depth);
    } else if (peek() == '[') {
      array(result, depth);
    } else if (peek() == '"') {
      result.kind_ = Json::Kind::text;
      result.text_ = string();
    } else if (take_word("true")) {
      result.kind_ = Json::Kind::boolean;
      result.integer_ = 1;
    } else if (take_word("false")) {
      result.kind_ = Json::Kind::boolean;
    } else if (!take_word("null")) {
      number(result);
    }
    return result;
  }

  void object(Json& result, int depth) {
    result.kind_ = Json::Kind::object;
    ++position_;
    skip_spaces();
    if (take('}')) return;
    do {
      skip_spaces();
      if (peek() != '"') refuse("a key is missing");
      result.keys_.push_back(string());
      skip_spaces();
      expect(':');
      result.items_.push_back(value(depth + 1));
      skip_spaces();
    } while (take(','));
    expect('}');
    refuse_repeated(result.keys_);
  }

  void refuse_repeated(const std::vector<std::string>& keys) const {
    std::vector<std::string_view> sorted(keys.begin(), keys.end());
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) refuse(message("the key ", quoted(*twice), " occurs twice"));
  }

  void array(Json& result, int depth) {
    result.kind_ = Json::Kind::array;
    ++position_;
    skip_spaces();
    if (take(']')) return;
    do {
      result.items_.push_back(value(depth + 1));
      skip_spaces();
    } while (take(','));
    expect(']');
  }

  std::string string() {
    std::string result;
    ++position_;
    while (true) {
      const size_t begin = position_;
      while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\\' &&
             static_cast<unsigned char>(text_[position_]) >= 0x20)
        ++position_;
      result.append(text_, begin, position_ - begin);
      if (position_ == text_.size()) refuse("a text has no end");
      if (take('"')) return result;
      if (!take('\\')) refuse("a control character stands in a text");
      escape(result);
    }
  }

  void escape(std::string& result) {
    static constexpr char kNames[] = "\"\\/bfnrt", kValues[] = "\"\\/\b\f\n\r\t";
    const char name = peek();
    if (position_ < text_.size()) ++position_;
    if (name == 'u') return append_utf8(result, code_point());
    const char* found = name ? std::strchr(kNames, name) : nullptr;
    if (!found) refuse("an escape is unknown");
    result += kValues[found - kNames];
  }

  uint32_t four_digits() {
    uint32_t code = 0;
    const char* begin = text_.data() + position_;
    if (text_.size() - position_ < 4) refuse("an escape is cut short");
    const auto [end, problem] = std::from_chars(begin, begin + 4, code, 16);
    if (problem != std::errc() || end != begin + 4) refuse("an escape has no four hexadecimal digits");
    position_ += 4;
    return code;
  }

  uint32_t code_point() {
    const uint32_t code = four_digits();
    if (code < 0xD800 || code > 0xDFFF) return code;
    if (code > 0xDBFF || !take_word("\\u")) refuse("half of a surrogate pair stands alone");
    const uint32_t low = four_digits();
    if (low < 0xDC00 || low > 0xDFFF) refuse("half of a surrogate pair stands alone");
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_utf8(std::string& out, uint32_t code) {
    const auto add = [&out](uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) return add(code);
    if (code < 0x800) {
      add(0xC0 | code >> 6);
    } else {
      if (code < 0x10000) {
        add(0xE0 | code >> 12);
      } else {
        add(0xF0 | code >> 18);
        add(0x80 | (code >> 12 & 63));
      }
      add(0x80 | (code >> 6 & 63));
    }
    add(0x80 | (code & 63));
  }

  size_t skip_digits() {
    const size_t begin = position_;
    while (peek() >= '0' && peek() <= '9') ++position_;
    return position_ - begin;
  }

  void number(Json& result) {
    const size_t begin = position_;
    take('-');
    const char first = peek();
    const size_t digits = skip_digits();
    if (digits == 0 || (first == '0' && digits > 1)) {
      position_ = begin;
      refuse("a value is missing or unknown");
    }
    bool whole = true;
    if (take('.')) {
      whole = false;
      if (skip_digits() == 0) refuse("a number ends in its point");
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++position_;
      if (!take('-')) take('+');
      if (skip_digits() == 0) refuse("a number has no exponent");
    }
    convert(result, text_.substr(begin, position_ - begin), whole);
  }

  static void convert(Json& result, std::string_view digits, bool whole) {
    const char *begin = digits.data(), *end = begin + digits.size();
    if (whole && std::from_chars(begin, end, result.integer_).ec == std::errc()) {
      result.kind_ = Json::Kind::integer;
      return;
    }
    result.kind_ = Json::Kind::number;
    if (std::from_chars(begin, end, result.number_).ec == std::errc()) return;
    // Beyond a double: too large, or so small that it is 0. Only a sign in the exponent makes it small.
    const size_t exponent = digits.find_first_of("eE");
    const bool small = exponent != digits.npos ? digits[exponent + 1] == '-' : digits.find('.') != digits.npos;
    result.number_ = small ? 0 : std::numeric_limits<double>::infinity();
    if (digits.front() == '-') result.number_ = -result.number_;
  }

  std::string_view text_;
  const std::string& where_;
  ErrorKind kind_;
  size_t position_ = 0, num_values_ = 0;
};

Json Json::parse(std::string_view text, const std::string& where, ErrorKind kind) {
  return JsonParser(text, where, kind).document();
}

double Json::number() const { return kind_ == Kind::integer ? static_cast<double>(integer_) : number_; }

const Json* Json::find(std::string_view key) const {
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i] == key) return &items_[i];
  return nullptr;
}

void Json::write(std::string& out, size_t max_bytes) const {
  if (out.size() > max_bytes) return;
  switch (kind_) {
    case Kind::null: out += "null"; return;
    case Kind::boolean: out += integer_ ? "true" : "false"; return;
    case Kind::integer: out += std::to_string(integer_); return;
    case Kind::number: out += json_number(number_); return;
    case Kind::text: out += json_text(std::string_view(text_).substr(0, max_bytes + 1)); return;
    case Kind::array:
    case Kind::object: break;
  }
  const bool object = kind_ == Kind::object;
  out += object ? '{' : '[';
  for (size_t i = 0; i < items_.size() && out.size() <= max_bytes; ++i) {
    if (i) out += ", ";
    if (object) out += json_text(std::string_view(keys_[i]).substr(0, max_bytes + 1)) + ": ";
    items_[i].write(out, max_bytes);
  }
  out += object ? '}' : ']';
}

std::string Json::shown(size_t max_bytes) const {
  std::string out;
  write(out, max_bytes);
  if (out.size() <= max_bytes) return out;
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
  return out.substr(0, end) + "...";
}

namespace {

// Whether up to 16 bytes are ASCII, by two loads that overlap.
bool is_short_ascii(const unsigned char* bytes, size_t size) {
  uint64_t words[2] = {};
  const size_t half = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : size;
  switch (half) {  // copies of a fixed size are single instructions
    case 8: std::memcpy(words, bytes, 8), std::memcpy(words + 1, bytes + size - 8, 8); break;
    case 4: std::memcpy(words, bytes, 4), std::memcpy(words + 1, bytes + size - 4, 4); break;
    case 2: std::memcpy(words, bytes, 2), std::memcpy(words + 1, bytes + size - 2, 2); break;
    case 1: words[0] = *bytes; break;
    default: break;
  }
  return ((words[0] | words[1]) & 0x8080808080808080u) == 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const size_t size = text.size();
  if (size <= 16 && is_short_ascii(bytes, size)) return true;
  size_t i = 0;
  while (i < size) {
    uint64_t eight = 0;
    if (size - i >= 8 && (std::memcpy(&eight, bytes + i, 8), (eight & 0x8080808080808080u) == 0)) {
      i += 8;
      continue;
    }
    const unsigned char first = bytes[i];
    if (first < 0x80) {
      ++i;
      continue;
    }
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || size - i < length) return false;
    // The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF.
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (bytes[i + 1] < low || bytes[i + 1] > high) return false;
    for (size_t k = 2; k < length; ++k)
      if ((bytes[i + k] & 0xC0) != 0x80) return false;
    i += length;
  }
  return true;
}

std::string json_text(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  // A float stays one: 256 would be read back as a whole number.
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

}  // namespace gemcut
