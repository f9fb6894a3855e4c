// The hash and what goes into it.
#include "formats/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gemcut {

namespace {

constexpr uint64_t kFactorLow = 0x87c37b91114253d5, kFactorHigh = 0x4cf5ad432745937f;
constexpr size_t kNumSamples = 64, kSampleBytes = 4096, kChunkBytes = 1 << 20;

uint64_t scramble_low(uint64_t word) { return std::rotl(word * kFactorLow, 31) * kFactorHigh; }
uint64_t scramble_high(uint64_t word) { return std::rotl(word * kFactorHigh, 33) * kFactorLow; }

uint64_t avalanche(uint64_t word) {
  word = (word ^ word >> 33) * 0xff51afd7ed558ccd;
  word = (word ^ word >> 33) * 0xc4ceb9fe1a85ec53;
  return word ^ word >> 33;
}

void add_number(Hasher& hasher, uint64_t number) {
  char bytes[sizeof number];
  std::memcpy(bytes, &number, sizeof number);
  hasher.add({bytes, sizeof bytes});
}

void add_range(Hasher& hasher, const MappedFile& file, uint64_t begin, uint64_t end) {
  std::string chunk;
  while (begin < end) {
    chunk.resize(std::min<uint64_t>(kChunkBytes, end - begin));
    file.read_at(begin, chunk.size(), chunk.data());
    hasher.add(chunk);
    begin += chunk.size();
  }
}

}  // namespace

void Hasher::mix(uint64_t low, uint64_t high) {
  low_ = (std::rotl(low_ ^ scramble_low(low), 27) + high_) * 5 + 0x52dce729;
  high_ = (std::rotl(high_ ^ scramble_high(high), 31) + low_) * 5 + 0x38495ab5;
}

void Hasher::add(std::string_view bytes) {
  num_bytes_ += bytes.size();
  while (!bytes.empty()) {
    if (rest_bytes_ == 0 && bytes.size() >= rest_.size()) {
      uint64_t words[2];
      std::memcpy(words, bytes.data(), sizeof words);
      mix(words[0], words[1]);
      bytes.remove_prefix(sizeof words);
      continue;
    }
    const size_t count = std::min(rest_.size() - rest_bytes_, bytes.size());
    std::memcpy(rest_.data() + rest_bytes_, bytes.data(), count);
    rest_bytes_ += count;
    bytes.remove_prefix(count);
    if (rest_bytes_ < rest_.size()) break;
    uint64_t words[2];
    std::memcpy(words, rest_.data(), sizeof words);
    mix(words[0], words[1]);
    rest_bytes_ = 0;
  }
}

std::string Hasher::finish() {
  std::fill(rest_.begin() + static_cast<std::ptrdiff_t>(rest_bytes_), rest_.end(), '\0');
  uint64_t words[2];
  std::memcpy(words, rest_.data(), sizeof words);
  high_ ^= scramble_high(words[1]);
  low_ ^= scramble_low(words[0]);
  low_ ^= num_bytes_;
  high_ ^= num_bytes_;
  low_ += high_;
  high_ += low_;
  low_ = avalanche(low_);
  high_ = avalanche(high_);
  low_ += high_;
  high_ += low_;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint64_t word : {low_, high_})
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[word >> shift & 15];
  return text;
}

std::string fingerprint_of(const StoredModel& model) {
  Hasher hasher;
  const size_t num_samples = std::max<size_t>(1, kNumSamples / model.files.size());
  for (size_t i = 0; i < model.files.size(); ++i) {
    const MappedFile& file = *model.files[i];
    add_number(hasher, file.size());
    add_number(hasher, static_cast<uint64_t>(file.modified_ns()));
    add_number(hasher, file.inode());
    add_range(hasher, file, 0, model.header_bytes[i]);
    const uint64_t begin = model.header_bytes[i], data_bytes = file.size() - begin;
    for (size_t sample = 0; sample < num_samples && data_bytes > 0; ++sample) {
      // First and last bytes are among them.
      const uint64_t room = data_bytes > kSampleBytes ? data_bytes - kSampleBytes : 0;
      const uint64_t at = begin + (num_samples > 1 ? room / (num_samples - 1) * sample : 0);
      add_range(hasher, file, at, std::min(at + kSampleBytes, file.size()));
    }
    if (data_bytes > kSampleBytes) add_range(hasher, file, file.size() - kSampleBytes, file.size());
  }
  return hasher.finish();
}

}  // namespace gemcut
