// What this machine offers the process: cores, memory, caches, and how fast memory can be read.
#pragma once

#include <cstdint>
#include <string>

namespace gemcut {

// Of the first core, in bytes; 0: the system does not say. l1 is the data cache; l3 may be shared by other cores.
struct CacheSizes {
  int64_t l1_bytes = 0;
  int64_t l2_bytes = 0;
  int64_t l3_bytes = 0;
};

// `root` stands before "/proc" and "/sys" in the functions below; tests pass a folder with files of their own.

// Cores this process may use, at least 1: its affinity, cut by the CPU quota of its control groups (rounded up).
int usable_cores(const std::string& root = "");

// Bytes that can be allocated without pushing anything out: the system's MemAvailable or what the process's control
// groups (version 1 or 2, with all their parents) still allow, whichever is less. The largest int64 where nothing says.
int64_t available_memory_bytes(const std::string& root = "");

CacheSizes cache_sizes(const std::string& root = "");

// The processor's name as the system gives it, such as "AMD EPYC 9R14"; "unknown" where it does not.
std::string cpu_model(const std::string& root = "");

// Bytes a second that `num_threads` threads together read from a buffer of `buffer_bytes`: the best of several passes
// of about 50 ms each. A buffer of 256 MiB or more measures memory, a small one a cache. Takes about half a second.
// Throws usage where num_threads or buffer_bytes is below 1, out_of_memory where the buffer cannot be had.
double measured_read_bandwidth(int num_threads, int64_t buffer_bytes = int64_t{256} << 20);

}  // namespace gemcut
