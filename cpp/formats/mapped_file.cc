// Opening, mapping and checking of files.
#include "formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "formats/message.h"

namespace gemcut {

static_assert(std::endian::native == std::endian::little, "weights are little-endian and computed with as they lie");

namespace {

constexpr size_t kMaxRead = size_t{1} << 30;  // Linux hands out at most 2 GiB - 4 KiB a call

[[noreturn]] void refuse(ErrorKind kind, const std::string& path, const std::string& what) {
  throw Error(kind, message("[formats.mapped_file] ", path, ": ", what));
}

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

int open_regular(const std::string& path, ErrorKind kind, struct stat& status) {
  if (stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      refuse(ErrorKind::not_found, path, "no such file. Check the path, or get the missing file.");
    refuse(kind, path, message("cannot be read (", std::strerror(errno), "). Check its permissions."));
  }
  if (!S_ISREG(status.st_mode)) refuse(kind, path, "is a folder or a device, expected a file. Name a file.");
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 || fstat(descriptor, &status) != 0) {
    const int problem = errno;
    if (descriptor >= 0) close(descriptor);
    refuse(kind, path, message("cannot be read (", std::strerror(problem), "). Check its permissions."));
  }
  return descriptor;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path), name_(path.substr(path.find_last_of('/') + 1)) {
  struct stat status {};
  descriptor_ = open_regular(path, ErrorKind::checkpoint, status);
  size_ = static_cast<uint64_t>(status.st_size);
  inode_ = static_cast<uint64_t>(status.st_ino);
  modified_ns_ = nanoseconds(status.st_mtim);
  if (size_ == 0) return;
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (memory == MAP_FAILED) {
    const int problem = errno;
    close(descriptor_);
    refuse(problem == ENOMEM ? ErrorKind::out_of_memory : ErrorKind::checkpoint, path_,
           message("its ", size_, " bytes cannot be mapped into memory (", std::strerror(problem),
                   "). Raise the limit on address space, or use a smaller model."));
  }
  data_ = static_cast<const std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
  close(descriptor_);
}

void MappedFile::read_at(uint64_t offset, size_t num_bytes, void* out) const {
  auto* to = static_cast<char*>(out);
  while (num_bytes > 0) {
    const ssize_t count = pread(descriptor_, to, std::min(num_bytes, kMaxRead), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      refuse(ErrorKind::checkpoint, path_, message("cannot be read at byte ", offset, " (", std::strerror(errno),
                                                   "). Check the disk, and copy the file again."));
    if (count == 0)
      refuse(ErrorKind::checkpoint, path_,
             message("ends at byte ", offset, ", expected ", num_bytes, " more. The file is cut short, or was changed "
                     "after it was opened (it had ", size_, " bytes). Get it again."));
    to += count;
    offset += static_cast<uint64_t>(count);
    num_bytes -= static_cast<size_t>(count);
  }
}

void MappedFile::check_unchanged() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0)
    refuse(ErrorKind::checkpoint, path_, message("cannot be read (", std::strerror(errno), "). Check the disk."));
  const bool same = static_cast<uint64_t>(status.st_size) == size_ && nanoseconds(status.st_mtim) == modified_ns_;
  if (!same)
    refuse(ErrorKind::checkpoint, path_,
           message("was changed after it was opened (it has ", status.st_size, " bytes, expected ", size_,
                   " and the same time of change). Load the model again."));
}

void MappedFile::release_pages() const {
  if (data_) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

std::string read_file(const std::string& path, uint64_t max_bytes, ErrorKind kind) {
  struct stat status {};
  const int descriptor = open_regular(path, kind, status);
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size > max_bytes) {
    close(descriptor);
    refuse(kind, path, message("is ", size, " bytes, expected at most ", max_bytes,
                               ". This is not the file it is named after."));
  }
  std::string text(size, '\0');
  size_t done = 0;
  ssize_t count = 1;
  while (done < size && count > 0) {
    count = read(descriptor, text.data() + done, size - done);
    if (count < 0 && errno == EINTR) count = 1;
    else if (count > 0) done += static_cast<size_t>(count);
  }
  close(descriptor);
  if (done < size) refuse(kind, path, message("ends at byte ", done, ", expected ", size, ". Get the file again."));
  return text;
}

}  // namespace gemcut
