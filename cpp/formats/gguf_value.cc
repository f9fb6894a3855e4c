// What a GGUF metadata value is as a number, a text or JSON.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/message.h"

namespace gemcut {

namespace {

using Kind = GgufValue::Kind;

template <class Number>
Number load(std::string_view raw, size_t index) {
  Number value;
  std::memcpy(&value, raw.data() + index * sizeof value, sizeof value);
  return value;
}

template <class Number>
uint64_t widen(Number value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

uint64_t scalar_bits(Kind kind, std::string_view raw, size_t index) {
  switch (kind) {
    case Kind::uint8: return load<uint8_t>(raw, index);
    case Kind::int8: return widen(load<int8_t>(raw, index));
    case Kind::uint16: return load<uint16_t>(raw, index);
    case Kind::int16: return widen(load<int16_t>(raw, index));
    case Kind::uint32: return load<uint32_t>(raw, index);
    case Kind::int32: return widen(load<int32_t>(raw, index));
    case Kind::float32: return std::bit_cast<uint64_t>(static_cast<double>(load<float>(raw, index)));
    case Kind::boolean: return load<uint8_t>(raw, index) != 0;
    case Kind::uint64: case Kind::int64: case Kind::float64: return load<uint64_t>(raw, index);
    case Kind::text: case Kind::array: break;
  }
  return 0;
}

template <class Stored, class Result>
std::vector<Result> convert(std::string_view raw, size_t count) {
  std::vector<Result> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = static_cast<Result>(load<Stored>(raw, i));
  return result;
}

// Items of an array of whole numbers. uint64 is left out: no array that Gemcut reads has it.
template <class Result>
std::optional<std::vector<Result>> convert_wholes(const GgufValue& list) {
  switch (list.item_kind) {
    case Kind::uint8: return convert<uint8_t, Result>(list.raw, list.count);
    case Kind::int8: return convert<int8_t, Result>(list.raw, list.count);
    case Kind::uint16: return convert<uint16_t, Result>(list.raw, list.count);
    case Kind::int16: return convert<int16_t, Result>(list.raw, list.count);
    case Kind::uint32: return convert<uint32_t, Result>(list.raw, list.count);
    case Kind::int32: return convert<int32_t, Result>(list.raw, list.count);
    case Kind::int64: return convert<int64_t, Result>(list.raw, list.count);
    default: return std::nullopt;
  }
}

}  // namespace

size_t scalar_bytes(Kind kind) {
  switch (kind) {
    case Kind::uint8: case Kind::int8: case Kind::boolean: return 1;
    case Kind::uint16: case Kind::int16: return 2;
    case Kind::uint32: case Kind::int32: case Kind::float32: return 4;
    case Kind::uint64: case Kind::int64: case Kind::float64: return 8;
    case Kind::text: case Kind::array: break;
  }
  return 0;
}

GgufValue GgufValue::item(size_t index) const {
  GgufValue result;
  result.kind = item_kind;
  if (item_kind == Kind::text) result.text = texts[index];
  else result.bits = scalar_bits(item_kind, raw, index);
  return result;
}

std::optional<std::vector<float>> GgufValue::floats() const {
  if (!is_array()) return std::nullopt;
  if (item_kind == Kind::float32) return convert<float, float>(raw, count);
  if (item_kind == Kind::float64) return convert<double, float>(raw, count);
  return convert_wholes<float>(*this);
}

std::optional<std::vector<int64_t>> GgufValue::wholes() const {
  return is_array() ? convert_wholes<int64_t>(*this) : std::nullopt;
}

std::optional<int64_t> GgufValue::whole() const {
  const auto value = static_cast<int64_t>(bits);
  if (kind == Kind::text || kind == Kind::array || kind == Kind::boolean || is_float()) return std::nullopt;
  if (kind == Kind::uint64 && value < 0) return std::nullopt;
  return value;
}

std::optional<double> GgufValue::number() const {
  if (kind == Kind::text || kind == Kind::array) return std::nullopt;
  if (is_float()) return std::bit_cast<double>(bits);
  return kind == Kind::uint64 ? static_cast<double>(bits) : static_cast<double>(static_cast<int64_t>(bits));
}

std::string GgufValue::shown(size_t max_bytes) const {
  std::string out;
  if (kind == Kind::text) {
    out = json_text(text.substr(0, max_bytes + 1));
  } else if (kind == Kind::array) {
    out = "[";
    for (size_t i = 0; i < count && out.size() <= max_bytes; ++i)
      out += (i ? ", " : "") + item(i).shown(max_bytes);
    out += "]";
  } else if (kind == Kind::boolean) {
    out = bits ? "true" : "false";
  } else if (kind == Kind::float32) {
    // The digits its author wrote: 1e-6, not the double next to that float.
    char digits[32];
    const auto value = static_cast<float>(std::bit_cast<double>(bits));
    out.assign(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  } else if (kind == Kind::float64) {
    out = json_number(std::bit_cast<double>(bits));
  } else {
    out = kind == Kind::uint64 ? std::to_string(bits) : std::to_string(static_cast<int64_t>(bits));
  }
  if (out.size() <= max_bytes) return out;
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
  return out.substr(0, end) + "...";
}

}  // namespace gemcut
