// Kept layouts: what is read is what was written, or nothing is.
#include "engine/layout_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/mapping_guard.h"
#include "tests/files.h"
#include "tests/kernel_cases.h"

namespace {

namespace fs = std::filesystem;
using gemcut::LayoutFolder;
using gemcut::map_layout;
using gemcut::WeightPlace;
using gemcut::write_layout;
using gemcut::testing::TemporaryFolder;

const std::string model(32, 'a');

std::vector<WeightPlace> places_of(int64_t bytes) {
  WeightPlace norm{"model.norm.weight", false, gemcut::Format::f32, 1, 16, 0, 64};
  WeightPlace rest{"model.embed_tokens.weight", true, gemcut::Format::q8, 16, 32, 64, bytes - 64};
  return {norm, rest};
}

std::vector<std::byte> random_region(int64_t bytes, uint64_t seed) {
  gemcut::testing::Random random(seed);
  std::vector<std::byte> region(static_cast<size_t>(bytes));
  for (std::byte& byte : region) byte = static_cast<std::byte>(random.bits());
  return region;
}

bool is_kept(const LayoutFolder& folder, const std::string& fingerprint, const std::vector<std::byte>& region) {
  const auto mapped = map_layout(folder, fingerprint, places_of(static_cast<int64_t>(region.size())));
  return mapped && std::memcmp(mapped.get(), region.data(), region.size()) == 0;
}

std::string keep(const LayoutFolder& folder, const std::string& fingerprint, const std::vector<std::byte>& region) {
  return write_layout(folder, fingerprint, places_of(static_cast<int64_t>(region.size())), region.data());
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

void set_age(const std::string& path, int hours) {
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours));
}

// The only layout file of a folder.
std::string kept_path(const std::string& folder) {
  const auto names = files_in(folder);
  CHECK_EQUAL(names.size(), 1u);
  return folder + names[0];
}

// An environment variable for as long as this lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* const old = std::getenv(name)) old_ = old;
    else missing_ = true;
    if (value) setenv(name, value, 1);
    else unsetenv(name);
  }
  ~Variable() {
    if (missing_) unsetenv(name_);
    else setenv(name_, old_.c_str(), 1);
  }

 private:
  const char* name_;
  std::string old_;
  bool missing_ = false;
};

}  // namespace

TEST(layout_file_gives_back_what_was_kept) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path() + "deep/er", int64_t{1} << 30};
  for (const int64_t bytes : {128, 4096, 20 << 20}) {
    const auto region = random_region(bytes, static_cast<uint64_t>(bytes));
    CHECK_EQUAL(keep(folder, model, region), "");
    CHECK(is_kept(folder, model, region));
    // Each replaces the one before, and leaves nothing beside it.
    CHECK_EQUAL(files_in(folder.path).size(), 1u);
  }
}

TEST(layout_file_that_is_not_exactly_what_is_expected_is_not_used) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto region = random_region(8192, 1);
  const auto places = places_of(8192);
  CHECK(map_layout(folder, model, places) == nullptr);
  CHECK_EQUAL(keep(folder, model, region), "");
  CHECK(map_layout(folder, std::string(32, 'b'), places) == nullptr);
  CHECK(map_layout({"", 0}, model, places) == nullptr);
  for (int field = 0; field < 5; ++field) {
    auto other = places;
    if (field == 0) other[1].name += "x";
    if (field == 1) other[1].format = gemcut::Format::q4;
    if (field == 2) other[1].rows += 16;
    if (field == 3) other[1].columns += 32;
    if (field == 4) other[1].bytes -= 64;
    CHECK(map_layout(folder, model, other) == nullptr);
  }
  const std::string path = kept_path(temporary.path());
  std::string bytes;
  {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  const auto with = [&](const std::string& changed) {
    std::ofstream(path, std::ios::binary) << changed;
    return map_layout(folder, model, places) != nullptr;
  };
  CHECK(with(bytes));
  CHECK(!with(bytes.substr(0, bytes.size() - 1)));
  CHECK(!with(bytes + "x"));
  CHECK(!with(bytes.substr(0, 10)));
  CHECK(!with(""));
  for (const std::string part : {"GCLAYOUT", "version ", "model aaa", "embed_tokens"}) {
    std::string changed = bytes;
    const size_t at = changed.find(part);
    CHECK(at < 4096);
    changed[at + part.size() - 1] ^= 1;
    CHECK(!with(changed));
  }
}

TEST(layout_file_of_another_model_has_another_name) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto first = random_region(4096, 1), second = random_region(8192, 2);
  CHECK_EQUAL(keep(folder, model, first), "");
  CHECK_EQUAL(keep(folder, std::string(32, 'b'), second), "");
  CHECK(is_kept(folder, model, first));
  CHECK(is_kept(folder, std::string(32, 'b'), second));
}

TEST(layout_file_leftovers_go_unless_their_writer_lives) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const std::string dead = temporary.write("dead-v1.layout.12-0.part", "half"), alive = temporary.write("alive-v1.layout.13-0.part", "half");
  const std::string foreign = temporary.write("note.txt", "not ours");
  const int locked = ::open(alive.c_str(), O_RDWR | O_CLOEXEC);
  CHECK(locked >= 0 && ::flock(locked, LOCK_EX) == 0);
  CHECK_EQUAL(keep(folder, model, random_region(4096, 1)), "");
  ::close(locked);
  CHECK(!fs::exists(dead));
  CHECK(fs::exists(alive));
  CHECK(fs::exists(foreign));
}

TEST(layout_file_limit_removes_the_least_recently_used) {
  const TemporaryFolder temporary;
  const int64_t bytes = 40960, one = bytes + 4096;  // a header of one page
  LayoutFolder folder{temporary.path(), 3 * one};
  const auto region = random_region(bytes, 1);
  const auto path = [&](char name) { return temporary.path() + std::string(32, name) + "-v" + std::to_string(gemcut::layout_version) + ".layout"; };
  for (const char name : {'a', 'b', 'c'}) CHECK_EQUAL(keep(folder, std::string(32, name), region), "");
  set_age(path('a'), 3);
  set_age(path('b'), 2);
  set_age(path('c'), 1);
  CHECK(is_kept(folder, std::string(32, 'a'), region));  // used now
  CHECK_EQUAL(keep(folder, std::string(32, 'd'), region), "");
  CHECK(fs::exists(path('a')) && !fs::exists(path('b')) && fs::exists(path('c')) && fs::exists(path('d')));
}

TEST(layout_file_larger_than_the_limit_is_not_kept_and_removes_nothing) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), 20000};
  const auto small = random_region(4096, 1);
  CHECK_EQUAL(keep(folder, model, small), "");
  const std::string problem = keep(folder, std::string(32, 'b'), random_region(40960, 2));
  CHECK(problem.find("45056 bytes are more than the limit of 20000") != std::string::npos);
  CHECK(is_kept(folder, model, small));
}

TEST(layout_files_take_no_more_than_their_share_of_the_disk) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 40, 1e-12};
  CHECK(keep(folder, model, random_region(40960, 1)).find("45056 bytes are more than the limit of ") != std::string::npos);
  CHECK_EQUAL(keep({temporary.path(), int64_t{1} << 40, 0.5}, model, random_region(40960, 1)), "");
}

TEST(layout_file_folder_that_cannot_be_written_is_a_reason) {
  const TemporaryFolder temporary;
  const std::string file = temporary.write("file", "x");
  const auto region = random_region(4096, 1);
  const std::string not_a_folder = keep({file + "/inside", int64_t{1} << 30}, model, region);
  CHECK(not_a_folder.find("inside: ") != std::string::npos);
  // A name longer than a file system takes: nothing can be opened.
  const std::string too_long = keep({temporary.path(), int64_t{1} << 30}, std::string(300, 'a'), region);
  CHECK(too_long.find("File name too long") != std::string::npos);
  CHECK(map_layout({file + "/inside", 1 << 30}, model, places_of(4096)) == nullptr);
}

TEST(layout_file_on_a_full_disk_is_a_reason_and_leaves_nothing) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto region = random_region(1 << 20, 1);
  // A file that may not grow answers like a disk without room.
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  CHECK_EQUAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{65536, limit.rlim_max};
  CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string problem = keep(folder, model, region);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK(problem.find("File too large") != std::string::npos);
  CHECK(files_in(temporary.path()).empty());
  CHECK(map_layout(folder, model, places_of(1 << 20)) == nullptr);
}

TEST(layout_file_of_two_writers_at_once_is_whole) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto region = random_region(3 << 20, 1);
  for (int repeat = 0; repeat < 10; ++repeat) {
    std::string problems[3];
    std::thread writers[3];
    for (int i = 0; i < 3; ++i) writers[i] = std::thread([&, i] { problems[i] = keep(folder, model, region); });
    // Whenever there is a file, it is complete.
    for (int look = 0; look < 20; ++look)
      if (map_layout(folder, model, places_of(3 << 20))) CHECK(is_kept(folder, model, region));
    for (std::thread& writer : writers) writer.join();
    CHECK(problems[0].empty() || problems[1].empty() || problems[2].empty());
    CHECK(is_kept(folder, model, region));
    CHECK_EQUAL(files_in(temporary.path()).size(), 1u);
    fs::remove(kept_path(temporary.path()));
  }
}

TEST(layout_file_mapped_while_another_replaces_it_stays_what_it_was) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto first = random_region(1 << 20, 1), second = random_region(1 << 20, 2);
  CHECK_EQUAL(keep(folder, model, first), "");
  const auto mapped = map_layout(folder, model, places_of(1 << 20));
  CHECK_EQUAL(keep(folder, model, second), "");
  CHECK(std::memcmp(mapped.get(), first.data(), first.size()) == 0);
  CHECK(is_kept(folder, model, second));
}

TEST(layout_file_cut_short_while_it_is_mapped_reads_as_zeros_and_is_known) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto region = random_region(1 << 20, 4);
  CHECK_EQUAL(keep(folder, model, region), "");
  CHECK_EQUAL(keep(folder, std::string(32, 'b'), region), "");
  for (const int64_t left : {8192, 5000, 0}) {
    CHECK_EQUAL(keep(folder, model, region), "");
    const auto mapped = map_layout(folder, model, places_of(1 << 20));
    const auto other = map_layout(folder, std::string(32, 'b'), places_of(1 << 20));
    CHECK(!gemcut::is_mapping_damaged(mapped.get()));
    for (const auto& file : fs::directory_iterator(temporary.path()))
      if (file.path().filename().string()[0] == 'a') fs::resize_file(file, static_cast<uintmax_t>(left));
    const std::vector<std::byte> found(mapped.get(), mapped.get() + region.size());
    const auto there = static_cast<size_t>(std::max<int64_t>(0, left - 4096));  // behind a header of one page
    CHECK(std::memcmp(found.data(), region.data(), there) == 0);
    for (size_t i = there; i < found.size(); ++i) CHECK(found[i] == std::byte{0});
    CHECK(gemcut::is_mapping_damaged(mapped.get()));
    CHECK(!gemcut::is_mapping_damaged(other.get()));
    CHECK(std::memcmp(other.get(), region.data(), region.size()) == 0);
  }
}

TEST(layout_file_maps_are_watched_for_as_long_as_they_live) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  CHECK_EQUAL(keep(folder, model, random_region(4096, 5)), "");
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<std::shared_ptr<const std::byte>> maps;
    while (maps.empty() || maps.back()) maps.push_back(map_layout(folder, model, places_of(4096)));
    CHECK(maps.size() >= 60);  // beyond what can be watched there is none, and the weights are packed
  }
}

TEST(layout_file_region_moves_whole_or_stops) {
  const TemporaryFolder temporary;
  const LayoutFolder folder{temporary.path(), int64_t{1} << 30};
  const auto region = random_region(20 << 20, 3);
  CHECK_EQUAL(keep(folder, model, region), "");
  const auto mapped = map_layout(folder, model, places_of(20 << 20));
  std::vector<std::byte> moved(region.size());
  std::atomic<bool> stop{true};
  int asked = 0;
  CHECK(!gemcut::move_region(mapped.get(), 20 << 20, moved.data(), [&] { return ++asked < 2; }));
  CHECK_EQUAL(asked, 2);
  CHECK(gemcut::move_region(mapped.get(), 20 << 20, moved.data(), [] { return true; }));
  CHECK(moved == region);
  CHECK(std::memcmp(mapped.get(), region.data(), region.size()) == 0);  // still there for who reads the map
}

TEST(layout_file_default_folder_is_that_of_the_python_caches) {
  const Variable home("HOME", "/home/someone");
  {
    const Variable cache("GEMCUT_CACHE", "/big/disk");
    CHECK_EQUAL(gemcut::default_layout_folder(), "/big/disk/layouts");
  }
  const Variable cache("GEMCUT_CACHE", nullptr);
  {
    const Variable shared("XDG_CACHE_HOME", "/caches");
    CHECK_EQUAL(gemcut::default_layout_folder(), "/caches/gemcut/layouts");
  }
  const Variable shared("XDG_CACHE_HOME", nullptr);
  CHECK_EQUAL(gemcut::default_layout_folder(), "/home/someone/.cache/gemcut/layouts");
  const Variable homeless("HOME", nullptr);
  CHECK_EQUAL(gemcut::default_layout_folder(), "");
}
