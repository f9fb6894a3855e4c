// Reads /proc, /sys and the clock; nothing here knows of models.
#include "engine/machine.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

#include "formats/error.h"

namespace gemcut {
namespace {

constexpr int64_t no_limit = std::numeric_limits<int64_t>::max();
constexpr int64_t cache_line_bytes = 64;

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

// The number at the start of a text; nothing where there is none ("max") or it is too large to be a limit.
std::optional<int64_t> leading_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// What follows `key` at the start of a line.
std::optional<std::string> value_after(const std::string& text, std::string_view key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.compare(0, key.size(), key) == 0) return line.substr(key.size());
  return std::nullopt;
}

std::optional<int64_t> number_after(const std::string& text, std::string_view key) {
  const std::optional<std::string> value = value_after(text, key);
  return value ? leading_number(*value) : std::nullopt;
}

// A control group's folder and those of its parents up to the mount point, innermost first.
// A container often sees the host's path but mounts only its own group: folders that are not there read as no limit.
std::vector<std::string> group_folders(const std::string& mount, std::string path) {
  std::vector<std::string> folders;
  while (!path.empty() && path != "/") {
    folders.push_back(mount + path);
    path.resize(std::min(path.find_last_of('/'), path.size()));
  }
  folders.push_back(mount);
  return folders;
}

struct Groups {
  std::vector<std::string> unified;  // version 2
  std::vector<std::string> memory;   // version 1
  std::vector<std::string> cpu;      // version 1
};

// Lines are "number:controllers:path"; version 2 has number 0 and no controllers. Source: man 7 cgroups.
Groups control_groups(const std::string& root) {
  Groups groups;
  const std::string mount = root + "/sys/fs/cgroup";
  std::istringstream lines(read_text(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string path = line.substr(second + 1);
    if (second == first + 1) groups.unified = group_folders(mount, path);
    std::istringstream controllers(line.substr(first + 1, second - first - 1));
    for (std::string name; std::getline(controllers, name, ',');) {
      if (name == "memory") groups.memory = group_folders(mount + "/memory", path);
      if (name == "cpu") groups.cpu = group_folders(mount + "/cpu", path);
    }
  }
  return groups;
}

// What a group still allows: its limit less what is used, file pages that can be dropped not counted as used.
int64_t group_memory(const std::string& limit, const std::string& usage, const std::string& stat,
                     std::string_view droppable_key) {
  const std::optional<int64_t> limit_bytes = leading_number(read_text(limit));
  if (!limit_bytes) return no_limit;
  const int64_t used = leading_number(read_text(usage)).value_or(0);
  const int64_t droppable = std::clamp<int64_t>(number_after(read_text(stat), droppable_key).value_or(0), 0, used);
  return std::max<int64_t>(0, *limit_bytes - (used - droppable));
}

std::optional<int64_t> cores_by_quota(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return *quota / *period + (*quota % *period != 0);
}

int64_t quota_cores(const std::string& root) {
  int64_t cores = no_limit;
  const Groups groups = control_groups(root);
  for (const std::string& folder : groups.unified) {
    const std::string text = read_text(folder + "/cpu.max");  // "max 100000" or "150000 100000"
    const size_t space = text.find(' ');
    if (space == std::string::npos) continue;
    const auto group_cores = cores_by_quota(leading_number(text), leading_number(text.substr(space)));
    cores = std::min(cores, group_cores.value_or(no_limit));
  }
  for (const std::string& folder : groups.cpu) {
    const auto quota = leading_number(read_text(folder + "/cpu.cfs_quota_us"));  // -1: none
    const auto period = leading_number(read_text(folder + "/cpu.cfs_period_us"));
    cores = std::min(cores, cores_by_quota(quota, period).value_or(no_limit));
  }
  return cores;
}

int64_t affinity_cores() {
#if defined(__linux__)
  // The mask must be at least as long as the kernel's; 2^18 cores are more than any kernel is built for.
  for (int max_cores = 1024; max_cores <= (1 << 18); max_cores *= 4) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(max_cores), [](cpu_set_t* p) { CPU_FREE(p); });
    const size_t set_bytes = CPU_ALLOC_SIZE(max_cores);
    if (set && sched_getaffinity(0, set_bytes, set.get()) == 0) return CPU_COUNT_S(set_bytes, set.get());
  }
#endif
  return std::thread::hardware_concurrency();
}

// "48K", "1024K", "32M": as /sys writes cache sizes.
int64_t bytes_of_size(const std::string& text) {
  const int64_t number = leading_number(text).value_or(0);
  if (number <= 0 || number > (int64_t{1} << 40)) return 0;
  if (text.find('K') != std::string::npos) return number << 10;
  if (text.find('M') != std::string::npos) return number << 20;
  return number;
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t:");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// Pages of zeros that are really there, in huge pages where the system has them (page-table walks cost up to 16 %).
class ReadBuffer {
 public:
  explicit ReadBuffer(size_t num_bytes) : num_bytes_(num_bytes) {
#if defined(__linux__)
    void* mapped = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != MAP_FAILED) data_ = static_cast<unsigned char*>(mapped);
    // Advice only: small pages are slower, not wrong.
    if (data_) madvise(data_, num_bytes, MADV_HUGEPAGE);
#else
    data_ = new (std::nothrow) unsigned char[num_bytes];
#endif
    if (!data_)
      throw Error(ErrorKind::out_of_memory,
                  "[engine.machine] measuring memory's speed: the system has no " + std::to_string(num_bytes) +
                      " bytes for the buffer, all were expected. Close other programs or measure with a smaller one.");
    std::memset(data_, 1, num_bytes);  // written, so that pages are memory and not the one page of zeros
  }
  ~ReadBuffer() {
#if defined(__linux__)
    munmap(data_, num_bytes_);
#else
    delete[] data_;
#endif
  }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;
  const unsigned char* data() const { return data_; }

 private:
  unsigned char* data_ = nullptr;
  size_t num_bytes_ = 0;
};

// Reads every byte of [data, data + num_bytes); the sum keeps the compiler from leaving loads out.
// Eight independent sums of one 16-byte register each, so that loads and not additions are what takes the time.
uint64_t read_all(const unsigned char* data, size_t num_bytes) {
  using Wide [[gnu::vector_size(16), gnu::aligned(16)]] = uint64_t;
  const Wide* words = reinterpret_cast<const Wide*>(data);
  Wide a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{};
  for (const Wide* end = words + num_bytes / sizeof(Wide) / 8 * 8; words != end; words += 8) {
    a += words[0];
    b += words[1];
    c += words[2];
    d += words[3];
    e += words[4];
    f += words[5];
    g += words[6];
    h += words[7];
  }
  const Wide sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
  return sum[0] + sum[1];
}

// Seconds of one pass: every thread reads its part of the buffer `repeats` times.
double read_seconds(const ReadBuffer& buffer, size_t part_bytes, int num_threads, int repeats) {
  using Clock = std::chrono::steady_clock;
  std::atomic<int> num_ready{0};
  std::atomic<bool> go{false};
  std::atomic<uint64_t> kept{0};
  const auto read_part = [&](int index) {
    num_ready.fetch_add(1);
    while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
    uint64_t sum = 0;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      sum += read_all(buffer.data() + static_cast<size_t>(index) * part_bytes, part_bytes);
      std::atomic_signal_fence(std::memory_order_seq_cst);  // or the compiler reads once and multiplies
    }
    kept.fetch_add(sum);
  };
  std::vector<std::thread> threads;
  for (int index = 1; index < num_threads; ++index) threads.emplace_back(read_part, index);
  while (num_ready.load() < num_threads - 1) std::this_thread::yield();
  const Clock::time_point begin = Clock::now();
  go.store(true, std::memory_order_release);
  read_part(0);
  for (std::thread& thread : threads) thread.join();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

int usable_cores(const std::string& root) {
  constexpr int64_t max_cores = 1 << 18;
  return static_cast<int>(std::clamp<int64_t>(std::min(affinity_cores(), quota_cores(root)), 1, max_cores));
}

int64_t available_memory_bytes(const std::string& root) {
  int64_t available = no_limit;
  const std::optional<int64_t> kib = number_after(read_text(root + "/proc/meminfo"), "MemAvailable:");
  if (kib && *kib >= 0 && *kib < (no_limit >> 10)) available = *kib << 10;
  const Groups groups = control_groups(root);
  for (const std::string& folder : groups.unified)
    available = std::min(available, group_memory(folder + "/memory.max", folder + "/memory.current",
                                                 folder + "/memory.stat", "inactive_file "));
  for (const std::string& folder : groups.memory)
    available = std::min(available, group_memory(folder + "/memory.limit_in_bytes", folder + "/memory.usage_in_bytes",
                                                 folder + "/memory.stat", "total_inactive_file "));
  return available;
}

CacheSizes cache_sizes(const std::string& root) {
  CacheSizes sizes;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = root + "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    const int64_t num_bytes = bytes_of_size(read_text(folder + "/size"));
    if (read_text(folder + "/type").rfind("Instruction", 0) == 0) continue;
    switch (leading_number(read_text(folder + "/level")).value_or(0)) {
      case 1: sizes.l1_bytes = num_bytes; break;
      case 2: sizes.l2_bytes = num_bytes; break;
      case 3: sizes.l3_bytes = num_bytes; break;
      default: break;
    }
  }
  return sizes;
}

std::string cpu_model(const std::string& root) {
  const std::string text = read_text(root + "/proc/cpuinfo");
  if (const auto name = value_after(text, "model name")) return trimmed(*name);
  // ARM kernels give numbers only. Source: Documentation/arch/arm64/cpu-feature-registers.rst of Linux.
  const auto implementer = value_after(text, "CPU implementer"), part = value_after(text, "CPU part");
  if (implementer && part) return "ARM implementer " + trimmed(*implementer) + " part " + trimmed(*part);
  return "unknown";
}

double measured_read_bandwidth(int num_threads, int64_t buffer_bytes) {
  if (num_threads < 1)
    throw Error(ErrorKind::usage, "[engine.machine] num_threads: " + std::to_string(num_threads) +
                                      " was given, expected 1 or more. Give the number of threads to measure with.");
  const int64_t step = int64_t{2} * cache_line_bytes * num_threads;
  if (buffer_bytes < step)
    throw Error(ErrorKind::usage, "[engine.machine] buffer_bytes: " + std::to_string(buffer_bytes) +
                                      " was given, expected " + std::to_string(step) + " or more for " +
                                      std::to_string(num_threads) + " threads. Measure with a larger buffer.");
  constexpr double pass_seconds = 0.05;
  constexpr int num_passes = 9;
  const ReadBuffer buffer(static_cast<size_t>(buffer_bytes));
  const size_t part_bytes = static_cast<size_t>(buffer_bytes / step * step / num_threads);
  const double read_bytes = static_cast<double>(part_bytes) * num_threads;
  double best_rate = read_bytes / std::max(read_seconds(buffer, part_bytes, num_threads, 1), 1e-9);
  const int repeats = std::clamp(static_cast<int>(pass_seconds * best_rate / read_bytes), 1, 1 << 20);
  for (int pass = 0; pass < num_passes; ++pass) {
    const double seconds = read_seconds(buffer, part_bytes, num_threads, repeats);
    best_rate = std::max(best_rate, read_bytes * repeats / std::max(seconds, 1e-9));
  }
  return best_rate;
}

}  // namespace gemcut
