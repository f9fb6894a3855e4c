// Opening and reading of files, and what is said where that fails.
#include "formats/mapped_file.h"

#include <filesystem>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/files.h"
#include "tests/testing.h"

using gemcut::ErrorKind;
using gemcut::MappedFile;
using gemcut::testing::TemporaryFolder;

TEST(mapped_file_gives_bytes_and_names) {
  const TemporaryFolder folder;
  const MappedFile file(folder.write("a.bin", "hello"));
  CHECK_EQUAL(file.name(), "a.bin");
  CHECK_EQUAL(file.size(), 5u);
  CHECK_EQUAL(std::string(reinterpret_cast<const char*>(file.data()), 5), "hello");
  char out[3];
  file.read_at(2, 3, out);
  CHECK_EQUAL(std::string(out, 3), "llo");
  CHECK_THROWS(file.read_at(3, 3, out), "a.bin: ends at byte 5, expected 1 more. The file is cut short");
  file.check_unchanged();
}

TEST(mapped_file_may_be_empty) {
  const TemporaryFolder folder;
  const MappedFile file(folder.write("a.bin", ""));
  CHECK(file.data() == nullptr);
  file.release_pages();
}

TEST(mapped_file_says_what_cannot_be_opened) {
  const TemporaryFolder folder;
  CHECK_THROWS(MappedFile(folder.path() + "b"), "[formats.mapped_file] " + folder.path() + "b: no such file");
  CHECK_THROWS(MappedFile(folder.path()), "is a folder or a device, expected a file");
  std::filesystem::create_symlink("loop", folder.path() + "loop");
  CHECK_THROWS(MappedFile(folder.path() + "loop"), "loop: cannot be read (");
}

TEST(mapped_file_larger_than_the_address_space) {
  const int descriptor = memfd_create("large", 0);
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  CHECK(ftruncate(descriptor, int64_t{1} << 50) == 0);
  CHECK_THROWS(MappedFile(path), "its 1125899906842624 bytes cannot be mapped into memory");
  close(descriptor);
}

TEST(mapped_file_tells_of_a_change) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.bin", "hello");
  const MappedFile file(path);
  std::filesystem::last_write_time(path, std::filesystem::last_write_time(path) - std::chrono::seconds(5));
  CHECK_THROWS(file.check_unchanged(), "was changed after it was opened (it has 5 bytes, expected 5 and the same time");
}

TEST(mapped_file_whole_texts_are_limited) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.json", "hello");
  CHECK_EQUAL(gemcut::read_file(path, 5, ErrorKind::config), "hello");
  CHECK_THROWS(gemcut::read_file(path, 4, ErrorKind::config), "a.json: is 5 bytes, expected at most 4");
}
