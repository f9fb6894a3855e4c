// A file opened for reading: mapped into memory for the weights, read with pread for everything that is parsed.
//
// Touching the mapping of a file that has shrunk ends the process (SIGBUS), and no check before can rule it out. So
// headers and vocabularies are copied with read_at(), which answers with an error; data() is for weights alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/error.h"

namespace gemcut {

class MappedFile {
 public:
  // Throws Error: not_found; checkpoint for a folder, a device, or a file that the system refuses.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }  // without folders, for messages
  uint64_t size() const { return size_; }            // bytes, when it was opened
  int64_t modified_ns() const { return modified_ns_; }
  uint64_t inode() const { return inode_; }
  const std::byte* data() const { return data_; }    // null for an empty file

  // Copies bytes [offset, offset + num_bytes). Throws ErrorKind::checkpoint if the file ends before. Thread-safe.
  void read_at(uint64_t offset, size_t num_bytes, void* out) const;
  // Throws ErrorKind::checkpoint if size or time of change are others than when it was opened.
  void check_unchanged() const;
  // The system may drop the pages of the mapping that were touched; they come back when they are read again.
  void release_pages() const;

 private:
  std::string path_, name_;
  int descriptor_ = -1;
  uint64_t size_ = 0, inode_ = 0;
  int64_t modified_ns_ = 0;
  const std::byte* data_ = nullptr;
};

// Text of a small file; throws as MappedFile does, and with `kind` where it is larger than `max_bytes`.
std::string read_file(const std::string& path, uint64_t max_bytes, ErrorKind kind);

}  // namespace gemcut
