// Building of error messages: parts of any kind, one after the other.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

#include "formats/error.h"

namespace gemcut {

// All parts as one text.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  out.precision(9);
  (out << ... << parts);
  return out.str();
}

// A piece of a file's own text for a message: in quotes, cut to `max_bytes`, bytes that no terminal should get as "?".
inline std::string quoted(std::string_view text, size_t max_bytes = 80) {
  std::string result = "\"";
  for (const char c : text.substr(0, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  // A cut in the middle of a character would leave half of it.
  if (text.size() > max_bytes) {
    while ((static_cast<unsigned char>(result.back()) & 0xC0) == 0x80) result.pop_back();
    if ((static_cast<unsigned char>(result.back()) & 0xC0) == 0xC0) result.pop_back();
    result += "...";
  }
  return result + '"';
}

}  // namespace gemcut
