// Philox, and the seeding that spreads a small seed over its key.
#include "cli/random_numbers.h"

#include <random>
#include <vector>

namespace gemcut::cli {
namespace {

// Each use changes the constant, so that equal words are mixed differently.
uint32_t hash_mix(uint32_t value, uint32_t& constant, uint32_t multiplier) {
  value ^= constant;
  constant *= multiplier;
  value *= constant;
  return value ^ value >> 16;
}

uint32_t mix(uint32_t x, uint32_t y) {
  const uint32_t mixed = 0xCA01F9DDu * x - 0x4973F715u * y;
  return mixed ^ mixed >> 16;
}

std::array<uint32_t, 4> entropy_pool(uint64_t seed) {
  // The words of the seed without leading zeros, then those of the number 0 for the first sample of a prompt.
  std::vector<uint32_t> words{static_cast<uint32_t>(seed)};
  if (seed >> 32) words.push_back(static_cast<uint32_t>(seed >> 32));
  words.resize(4, 0);
  std::array<uint32_t, 4> pool{};
  uint32_t constant = 0x43B0D7E5u;
  for (size_t i = 0; i < 4; ++i) pool[i] = hash_mix(words[i], constant, 0x931E8875u);
  for (size_t source = 0; source < 4; ++source)
    for (size_t target = 0; target < 4; ++target)
      if (source != target) pool[target] = mix(pool[target], hash_mix(pool[source], constant, 0x931E8875u));
  return pool;
}

// The halves of a * b.
void multiply(uint64_t a, uint64_t b, uint64_t& high, uint64_t& low) {
  const uint64_t a_low = a & 0xFFFFFFFF, a_high = a >> 32, b_low = b & 0xFFFFFFFF, b_high = b >> 32;
  const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
  const uint64_t other = a_low * b_high + (middle & 0xFFFFFFFF);
  high = a_high * b_high + (middle >> 32) + (other >> 32);
  low = a * b;
}

}  // namespace

RandomNumbers::RandomNumbers(int64_t seed) {
  const auto pool = entropy_pool(static_cast<uint64_t>(seed) & 0x7FFFFFFFFFFFFFFF);
  uint32_t constant = 0x8B51F9DDu;
  for (size_t i = 0; i < 4; ++i)
    key_[i / 2] |= uint64_t{hash_mix(pool[i], constant, 0x58F38DEDu)} << (i % 2 * 32);
}

int64_t RandomNumbers::new_seed() {
  std::random_device device;
  return static_cast<int64_t>((uint64_t{device()} << 32 | device()) >> 1);
}

uint64_t RandomNumbers::next_word() {
  if (used_ < 4) return words_[used_++];
  for (size_t i = 0; i < 4 && ++counter_[i] == 0; ++i) {
  }
  words_ = counter_;
  std::array<uint64_t, 2> key = key_;
  for (int round = 0; round < 10; ++round) {
    uint64_t high0 = 0, low0 = 0, high2 = 0, low2 = 0;
    multiply(0xD2E7470EE14C6C93, words_[0], high0, low0);
    multiply(0xCA5A826395121157, words_[2], high2, low2);
    words_ = {high2 ^ words_[1] ^ key[0], low2, high0 ^ words_[3] ^ key[1], low0};
    key = {key[0] + 0x9E3779B97F4A7C15, key[1] + 0xBB67AE8584CAA73B};
  }
  used_ = 1;
  return words_[0];
}

float RandomNumbers::next() {
  uint32_t bits = upper_half_;
  if (!has_upper_half_) {
    const uint64_t word = next_word();
    bits = static_cast<uint32_t>(word);
    upper_half_ = static_cast<uint32_t>(word >> 32);
  }
  has_upper_half_ = !has_upper_half_;
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

}  // namespace gemcut::cli
