// Which encoder this processor runs, and rows shared among threads.
#include "quantize/encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

namespace gemcut {

extern const Encoder portable_encoder;
#if defined(__x86_64__)
extern const Encoder avx2_encoder;
extern const Encoder avx512_vnni_encoder;
#endif

int runnable_encoders(const Encoder** out, int capacity) {
  int count = 0;
  const auto add = [&](const Encoder& encoder, bool runnable) {
    if (runnable && count < capacity) out[count++] = &encoder;
  };
  add(portable_encoder, true);
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  add(avx2_encoder, avx2);
  // All that the flags of the file allow the compiler.
  add(avx512_vnni_encoder, avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                               __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"));
#endif
  return count;
}

void quantise_rows(BlockType type, const float* x, int64_t num_rows, int64_t columns, const float* weights,
                   uint8_t* out, int num_threads) {
  const Encoder* encoders[8];
  const Encoder& encoder = *encoders[runnable_encoders(encoders, 8) - 1];
  const BlockSize size = block_size(type);
  const int64_t row_bytes = columns / size.values * size.bytes, step = encoder.lanes;
  const int64_t most_threads = (num_rows + step - 1) / step;
  num_threads = static_cast<int>(std::min<int64_t>(std::max(num_threads, 1), most_threads));
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t row; (row = next.fetch_add(step)) < num_rows;)
      encoder.encode(type, x + row * columns, std::min(step, num_rows - row), columns, weights, out + row * row_bytes);
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < num_threads; ++i) others.emplace_back(work);
  work();
}

int64_t first_beyond(const float* x, int64_t count, float limit) {
  constexpr int64_t chunk = 4096;
  for (int64_t start = 0; start < count; start += chunk) {
    const int64_t end = std::min(count, start + chunk);
    bool all_within = true;
    for (int64_t i = start; i < end; ++i) all_within &= std::fabs(x[i]) <= limit;
    if (all_within) continue;
    const float* const found = std::find_if(x + start, x + end, [=](float v) { return !(std::fabs(v) <= limit); });
    return found - x;
  }
  return -1;
}

}  // namespace gemcut
