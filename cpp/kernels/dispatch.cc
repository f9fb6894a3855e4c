// Which kernels this processor runs: asked once, by name, of the processor and of the operating system.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "formats/error.h"
#include "kernels/kernels.h"

namespace gemcut {

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx_vnni_kernels();
const Kernels& avx512_vnni_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& neon_dotprod_kernels();
const Kernels& neon_i8mm_kernels();

namespace {

struct Candidate {
  const char* name;
  bool runnable;
  const Kernels& (*table)();
};

#if defined(__x86_64__)
enum class Register { eax, ecx };

// A bit that the processor tells of itself: F16C and AVX-VNNI, which clang's builtin has no names for before 15 and 16.
bool cpuid_bit(unsigned leaf, unsigned subleaf, Register where, int bit) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx)) return false;
  return (where == Register::eax ? eax : ecx) >> bit & 1;
}
#endif

// Slowest first. The compiler's builtin also asks whether the operating system keeps the wide registers.
std::vector<Candidate> candidates() {
  std::vector<Candidate> all = {{"portable", true, &portable_kernels}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    cpuid_bit(1, 0, Register::ecx, 29);
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  all.push_back({"avx2", avx2, &avx2_kernels});
  all.push_back({"avx_vnni", avx2 && cpuid_bit(7, 1, Register::eax, 4), &avx_vnni_kernels});
  all.push_back({"avx512_vnni", avx512, &avx512_vnni_kernels});
  all.push_back({"avx512_bf16", avx512 && __builtin_cpu_supports("avx512bf16"), &avx512_bf16_kernels});
#elif defined(__aarch64__)
  // Linux's bits of AT_HWCAP and AT_HWCAP2; other systems on this architecture have both.
  bool dot_product = true, int8_matrices = true;
#if defined(__linux__)
  dot_product = getauxval(AT_HWCAP) >> 20 & 1;
  int8_matrices = dot_product && (getauxval(AT_HWCAP2) >> 13 & 1);
#endif
  all[0].name = "neon";  // plain C++ is compiled to NEON there
  all.push_back({"neon_dotprod", dot_product, &neon_dotprod_kernels});
  all.push_back({"neon_i8mm", int8_matrices, &neon_i8mm_kernels});
#endif
  return all;
}

}  // namespace

int runnable_kernels(const Kernels** out, int capacity) {
  int count = 0;
  for (const Candidate& candidate : candidates())
    if (candidate.runnable && count < capacity) out[count++] = &candidate.table();
  return count;
}

const Kernels& choose_kernels() {
  const std::vector<Candidate> all = candidates();
  const char* const wanted = std::getenv("GEMCUT_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    const auto best = std::find_if(all.rbegin(), all.rend(), [](const Candidate& one) { return one.runnable; });
    return best->table();
  }
  std::string runnable;
  for (const Candidate& candidate : all) {
    if (!candidate.runnable) continue;
    if (candidate.name == std::string(wanted)) return candidate.table();
    runnable += runnable.empty() ? candidate.name : std::string(", ") + candidate.name;
  }
  throw Error(ErrorKind::usage, "[kernels.dispatch] GEMCUT_ISA is \"" + std::string(wanted) +
                                    "\", expected one that this processor runs: " + runnable + ". Unset it to take the last.");
}

double int8_peak_mac_per_second(int num_threads) {
  const Kernels& kernels = choose_kernels();
  constexpr int64_t rounds = 2'000'000;
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<int64_t> done(static_cast<size_t>(num_threads));
    std::vector<std::thread> threads;
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t& count : done) threads.emplace_back([&] { count = kernels.int8_burst(rounds); });
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    int64_t total = 0;
    for (const int64_t count : done) total += count;
    best = std::max(best, static_cast<double>(total) / seconds.count());
  }
  return best;
}

}  // namespace gemcut
