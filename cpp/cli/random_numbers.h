// The numbers that draws use: those of NumPy, so that a seed gives the same text here and in Python.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gemcut::cli {

// numpy.random.Generator(Philox(SeedSequence([seed, 0]))).random(dtype=float32), one number at a time.
// Source: Philox4x64-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; seeding: NumPy 2,
// numpy/random/bit_generator.pyx, after M. E. O'Neill's seed_seq_fe128.
class RandomNumbers {
 public:
  explicit RandomNumbers(int64_t seed);
  static int64_t new_seed();  // from the system's randomness
  float next();               // in [0, 1)

 private:
  uint64_t next_word();

  std::array<uint64_t, 2> key_{};
  std::array<uint64_t, 4> counter_{}, words_{};
  size_t used_ = 4;           // of words_
  uint32_t upper_half_ = 0;   // of the last word
  bool has_upper_half_ = false;
};

}  // namespace gemcut::cli
