// Tests of engine/machine: /proc and /sys are read from folders written here.
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "engine/machine.h"
#include "formats/error.h"
#include "tests/testing.h"

namespace {

using namespace gemcut;

constexpr int64_t gib = int64_t{1} << 30;

// A folder that stands for "/"; gone at the end of the test.
class FakeRoot {
 public:
  explicit FakeRoot(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("gemcut-test-machine-" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = path_.string() + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::string text() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(machine_memory_is_what_the_system_has) {
  const FakeRoot root("meminfo");
  root.write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1024 kB\nMemAvailable:    8388608 kB\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), 8 * gib);
}

TEST(machine_memory_unknown_is_no_limit) {
  const FakeRoot root("no-meminfo");
  CHECK_EQUAL(available_memory_bytes(root.text()), std::numeric_limits<int64_t>::max());
  root.write("/proc/meminfo", "MemAvailable:    99999999999999999 kB\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), std::numeric_limits<int64_t>::max());
}

TEST(machine_memory_of_unified_groups_and_their_parents) {
  const FakeRoot root("cgroup2");
  root.write("/proc/meminfo", "MemAvailable:    8388608 kB\n");
  root.write("/proc/self/cgroup", "0::/pod/job\n");
  root.write("/sys/fs/cgroup/pod/job/memory.max", "max\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), 8 * gib);
  root.write("/sys/fs/cgroup/pod/memory.max", std::to_string(4 * gib) + "\n");
  root.write("/sys/fs/cgroup/pod/memory.current", std::to_string(3 * gib) + "\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), gib);
  // File pages that can be dropped are not in use.
  root.write("/sys/fs/cgroup/pod/memory.stat", "anon 5\ninactive_file " + std::to_string(gib) + "\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), 2 * gib);
  root.write("/sys/fs/cgroup/pod/memory.current", std::to_string(6 * gib) + "\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), int64_t{0});
}

TEST(machine_memory_of_version_1_groups) {
  const FakeRoot root("cgroup1");
  root.write("/proc/meminfo", "MemAvailable:    8388608 kB\n");
  root.write("/proc/self/cgroup", "5:freezer:/\n4:memory:/box\n2:cpu,cpuacct:/\n0::/\n");
  root.write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", std::to_string(2 * gib) + "\n");
  root.write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", std::to_string(gib) + "\n");
  root.write("/sys/fs/cgroup/memory/box/memory.stat", "inactive_file 7\ntotal_inactive_file 1024\n");
  CHECK_EQUAL(available_memory_bytes(root.text()), gib + 1024);
}

TEST(machine_cores_follow_the_quota) {
  const int all = usable_cores(FakeRoot("no-quota").text());
  CHECK(all >= 1);
  const FakeRoot root("quota");
  root.write("/proc/self/cgroup", "0::/job\n");
  root.write("/sys/fs/cgroup/cpu.max", "max 100000\n");
  CHECK_EQUAL(usable_cores(root.text()), all);
  root.write("/sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  CHECK_EQUAL(usable_cores(root.text()), 1);
  root.write("/sys/fs/cgroup/job/cpu.max", "99900000 100000\n");
  CHECK_EQUAL(usable_cores(root.text()), all);
}

TEST(machine_cores_follow_the_version_1_quota) {
  const FakeRoot root("quota1");
  const int all = usable_cores(root.text());
  root.write("/proc/self/cgroup", "3:cpu,cpuacct:/job\n");
  root.write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  root.write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  CHECK_EQUAL(usable_cores(root.text()), all);
  root.write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
  CHECK_EQUAL(usable_cores(root.text()), 1);
}

TEST(machine_caches) {
  const FakeRoot root("caches");
  CHECK_EQUAL(cache_sizes(root.text()).l1_bytes, int64_t{0});
  const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index";
  const char* const rows[4][3] = {
      {"1", "Data", "48K"}, {"1", "Instruction", "32K"}, {"2", "Unified", "1024K"}, {"3", "Unified", "32M"}};
  for (int i = 0; i < 4; ++i) {
    root.write(folder + std::to_string(i) + "/level", std::string(rows[i][0]) + "\n");
    root.write(folder + std::to_string(i) + "/type", std::string(rows[i][1]) + "\n");
    root.write(folder + std::to_string(i) + "/size", std::string(rows[i][2]) + "\n");
  }
  const CacheSizes sizes = cache_sizes(root.text());
  CHECK_EQUAL(sizes.l1_bytes, int64_t{48} << 10);
  CHECK_EQUAL(sizes.l2_bytes, int64_t{1} << 20);
  CHECK_EQUAL(sizes.l3_bytes, int64_t{32} << 20);
}

TEST(machine_processor_name) {
  const FakeRoot root("cpuinfo");
  CHECK_EQUAL(cpu_model(root.text()), "unknown");
  root.write("/proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
  CHECK_EQUAL(cpu_model(root.text()), "ARM implementer 0x41 part 0xd0c");
  root.write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz \n");
  CHECK_EQUAL(cpu_model(root.text()), "Some CPU @ 3 GHz");
}

TEST(machine_read_bandwidth) {
  // Slower than a floppy disk or faster than any cache: the clock or the count of bytes is wrong.
  for (const int num_threads : {1, 3}) {
    const double bandwidth = measured_read_bandwidth(num_threads, int64_t{1} << 20);
    CHECK(bandwidth > 1e6);
    CHECK(bandwidth < 1e14);
  }
}

TEST(machine_read_bandwidth_refuses) {
  CHECK_THROWS(measured_read_bandwidth(0), "[engine.machine] num_threads: 0 was given, expected 1 or more");
  CHECK_THROWS(measured_read_bandwidth(2, 255), "[engine.machine] buffer_bytes: 255 was given, expected 256 or more");
  CHECK_THROWS(measured_read_bandwidth(1, int64_t{1} << 60), "[engine.machine] measuring memory's speed: the system");
}

}  // namespace
