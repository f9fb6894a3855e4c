// A short name of a model's exact bytes, for caches of what is made from them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "formats/stored_tensor.h"

namespace gemcut {

// 128-bit hash of a stream of bytes: MurmurHash3 for x64 by Austin Appleby (public domain), seed 0. It tells files
// apart that differ by accident; it is no defence against someone who makes two files collide.
class Hasher {
 public:
  void add(std::string_view bytes);
  // 32 hexadecimal digits. The hasher is used up.
  std::string finish();

 private:
  void mix(uint64_t low, uint64_t high);

  uint64_t low_ = 0, high_ = 0, num_bytes_ = 0;
  std::array<char, 16> rest_{};
  size_t rest_bytes_ = 0;
};

// Hash of sizes, times of change, inodes, headers and 64 samples of 4 KiB over the data of all files.
// Throws ErrorKind::checkpoint if a file has shrunk.
std::string fingerprint_of(const StoredModel& model);

}  // namespace gemcut
