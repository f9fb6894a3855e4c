// Sums and products of numbers that a file claims; nothing where they do not fit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace gemcut {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<uint64_t> checked_multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Product of all sizes, none of them negative; 1 for no sizes.
inline std::optional<uint64_t> checked_product(std::span<const int64_t> sizes) {
  std::optional<uint64_t> product = 1;
  for (const int64_t size : sizes) {
    if (size == 0) return 0;
    if (product) product = checked_multiply(*product, static_cast<uint64_t>(size));
  }
  return product;
}

}  // namespace gemcut
