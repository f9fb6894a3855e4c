#include "engine/layout_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "engine/mapping_guard.h"
#include "formats/fingerprint.h"

namespace gemcut {
namespace {

namespace fs = std::filesystem;

constexpr char magic[8] = {'G', 'C', 'L', 'A', 'Y', 'O', 'U', 'T'};
constexpr int64_t data_alignment = 4096;
constexpr size_t part_bytes = size_t{8} << 20;  // read or written at once
const char* const suffix = ".layout";
const char* const unfinished_suffix = ".part";

// A file descriptor that closes itself.
class File {
 public:
  File(const std::string& path, int flags) : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  explicit operator bool() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

bool read_all(int descriptor, void* out, size_t count, int64_t offset) {
  auto* at = static_cast<char*>(out);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor, at, count, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    offset += got;
    count -= static_cast<size_t>(got);
  }
  return true;
}

bool write_all(int descriptor, const void* data, size_t count) {
  auto* at = static_cast<const char*>(data);
  while (count > 0) {
    const ssize_t put = ::write(descriptor, at, std::min(count, part_bytes));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    count -= static_cast<size_t>(put);
  }
  return true;
}

// Everything before the data: what the file must say to be used, byte for byte.
std::string header_of(const std::string& fingerprint, const std::vector<WeightPlace>& places) {
  std::string text(magic, sizeof magic);
  text += "\nversion " + std::to_string(layout_version) + "\nmodel " + fingerprint + "\n";
  for (const WeightPlace& place : places)
    text += place.name + " " + std::to_string(static_cast<int>(place.format)) + " " + std::to_string(place.rows) + " " +
            std::to_string(place.columns) + " " + std::to_string(place.offset) + " " + std::to_string(place.bytes) + "\n";
  Hasher hasher;
  hasher.add(text);
  text += hasher.finish() + "\n";
  text.resize((text.size() + data_alignment - 1) / data_alignment * data_alignment, '\0');
  return text;
}

std::string file_name(const std::string& fingerprint) {
  return fingerprint + "-v" + std::to_string(layout_version) + suffix;
}

// Unfinished files whose writer is gone: a living one holds a lock.
void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != unfinished_suffix) continue;
    const File file(entry.path().string(), O_RDWR);
    if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) fs::remove(entry.path(), ignored);
  }
}

// What all files together may take, when they have `kept` bytes now.
int64_t limit_of(const LayoutFolder& folder, int64_t kept) {
  std::error_code unknown;
  const fs::space_info disk = fs::space(folder.path, unknown);
  if (unknown) return folder.max_bytes;
  const double room = static_cast<double>(disk.available) + static_cast<double>(kept);
  return std::min(folder.max_bytes, static_cast<int64_t>(room * folder.max_share));
}

// Removes the least recently used files until `bytes` more fit under the limit, which it returns; it removes none where
// `bytes` are more than that.
int64_t make_room(const LayoutFolder& folder, int64_t bytes) {
  struct Kept {
    fs::path path;
    fs::file_time_type used;
    int64_t bytes;
  };
  std::error_code failure;
  std::vector<Kept> files;
  int64_t total = bytes;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.path, failure)) {
    if (entry.path().extension() != suffix) continue;
    files.push_back({entry.path(), entry.last_write_time(failure), static_cast<int64_t>(entry.file_size(failure))});
    total += files.back().bytes;
  }
  const int64_t limit = limit_of(folder, total - bytes);
  if (bytes > limit) return limit;  // even if all others went
  std::sort(files.begin(), files.end(), [](const Kept& a, const Kept& b) { return a.used < b.used; });
  for (const Kept& file : files) {
    if (total <= limit) break;
    fs::remove(file.path, failure);
    total -= file.bytes;
  }
  return limit;
}

std::string reason(const std::string& path) { return path + ": " + std::strerror(errno); }

}  // namespace

std::string default_layout_folder() {
  const auto from = [](const char* variable) {
    const char* const value = std::getenv(variable);
    return std::string(value ? value : "");
  };
  std::string cache = from("GEMCUT_CACHE");
  if (cache.empty()) {
    const std::string shared = from("XDG_CACHE_HOME"), home = from("HOME");
    if (shared.empty() && home.empty()) return "";
    cache = (shared.empty() ? home + "/.cache" : shared) + "/gemcut";
  }
  return cache + "/layouts";
}

std::shared_ptr<const std::byte> map_layout(const LayoutFolder& folder, const std::string& fingerprint,
                                            const std::vector<WeightPlace>& places) {
  if (folder.path.empty()) return nullptr;
  const std::string path = folder.path + "/" + file_name(fingerprint), header = header_of(fingerprint, places);
  const File file(path, O_RDONLY);
  struct stat facts;
  const size_t data = header.size(), length = data + static_cast<size_t>(region_bytes(places));
  if (!file || ::fstat(file.get(), &facts) != 0 || facts.st_size != static_cast<off_t>(length)) return nullptr;
  std::string found(data, '\0');
  if (!read_all(file.get(), found.data(), data, 0) || found != header) return nullptr;
  void* const mapping = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapping == MAP_FAILED) return nullptr;
  const auto unmap = [mapping, length](const std::byte*) {
    unguard_mapping(mapping);
    ::munmap(mapping, length);
  };
  if (!guard_mapping(mapping, length)) {
    unmap(nullptr);
    return nullptr;
  }
  ::futimens(file.get(), nullptr);  // its time of change is its last use
  return {static_cast<const std::byte*>(mapping) + data, unmap};
}

bool move_region(const std::byte* from, int64_t bytes, std::byte* to, const std::function<bool()>& go_on) {
  const int64_t part = static_cast<int64_t>(part_bytes);
  for (int64_t begin = 0; begin < bytes; begin += part) {
    if (!go_on()) return false;
    const size_t count = static_cast<size_t>(std::min(part, bytes - begin));
    std::memcpy(to + begin, from + begin, count);
    // The pages stay in the system's file cache; only this process's share of them goes.
    ::madvise(const_cast<std::byte*>(from + begin), count, MADV_DONTNEED);
  }
  return true;
}

std::string write_layout(const LayoutFolder& folder, const std::string& fingerprint,
                         const std::vector<WeightPlace>& places, const std::byte* region) {
  std::error_code failure;
  fs::create_directories(folder.path, failure);
  if (failure) return folder.path + ": " + failure.message();
  remove_leftovers(folder.path);
  const std::string header = header_of(fingerprint, places);
  const int64_t bytes = region_bytes(places), total = bytes + static_cast<int64_t>(header.size());
  if (const int64_t limit = make_room(folder, total); total > limit)
    return folder.path + ": " + std::to_string(total) + " bytes are more than the limit of " + std::to_string(limit);
  const std::string path = folder.path + "/" + file_name(fingerprint);
  // A name that no writer shares, in this process or another; O_EXCL for those of another container's numbers.
  static std::atomic<uint32_t> writers{0};
  const std::string unfinished = path + "." + std::to_string(::getpid()) + "-" + std::to_string(writers++) + unfinished_suffix;
  const File file(unfinished, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return reason(unfinished);
  ::flock(file.get(), LOCK_EX | LOCK_NB);
  // The disk's room is asked for before anything is written.
  const int refused = ::posix_fallocate(file.get(), 0, total);
  errno = refused;
  const bool written = refused == 0 && write_all(file.get(), header.data(), header.size()) &&
                       write_all(file.get(), region, static_cast<size_t>(bytes)) && ::fdatasync(file.get()) == 0 &&
                       ::rename(unfinished.c_str(), path.c_str()) == 0;
  if (written) return "";
  std::string why = reason(unfinished);
  ::unlink(unfinished.c_str());
  return why;
}

}  // namespace gemcut
