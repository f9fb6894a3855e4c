// A fuzzer's bytes as a file in memory.
#pragma once

#include <cstdint>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>

namespace gemcut::fuzz {

// One file that every input overwrites.
class InputFile {
 public:
  InputFile() : descriptor_(memfd_create("input", 0)), path_("/proc/self/fd/" + std::to_string(descriptor_)) {}

  const std::string& write(const uint8_t* bytes, size_t num_bytes) {
    if (ftruncate(descriptor_, 0) || pwrite(descriptor_, bytes, num_bytes, 0) != static_cast<ssize_t>(num_bytes))
      throw std::runtime_error("the input cannot be written to memory");
    return path_;
  }

 private:
  int descriptor_;
  std::string path_;
};

}  // namespace gemcut::fuzz
