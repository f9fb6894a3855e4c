// UTF-8, one character at a time, with SentencePiece's answer for what is not UTF-8.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "formats/tokenizer_tables.h"

namespace gemcut {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";           // U+2581, a space in the vocabulary

// Bytes of the character that `text` begins with, 1 to 4; 0 where it begins with none (surrogates, overlong forms and
// numbers above U+10FFFF are none). `text` is not empty. With `is_cut`: whether more bytes could still complete one.
inline size_t utf8_character_bytes(std::string_view text, bool* is_cut = nullptr) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (is_cut) *is_cut = false;
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) {
      if (is_cut) *is_cut = true;
      return 0;
    }
    // Only the second byte's range depends on the first: Unicode standard, table 3-7.
    const unsigned char low = i > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return 0;
  }
  return size;
}

// Whether a character, given as its UTF-8, is white space to Python's str.isspace.
inline bool is_whitespace(std::string_view character) {
  return std::find(std::begin(kWhitespace), std::end(kWhitespace), character) != std::end(kWhitespace);
}

// Appends `bytes` to `text`, each byte that is part of no character as U+FFFD. A character cut off at the end is left
// out where `keeps_tail`. Returns how many bytes were taken.
inline size_t append_utf8(std::string& text, std::string_view bytes, bool keeps_tail) {
  size_t done = 0;
  while (done < bytes.size()) {
    bool is_cut = false;
    const size_t size = utf8_character_bytes(bytes.substr(done), &is_cut);
    if (is_cut && keeps_tail) break;
    text += size ? bytes.substr(done, size) : kReplacementCharacter;
    done += size ? size : 1;
  }
  return done;
}

}  // namespace gemcut
