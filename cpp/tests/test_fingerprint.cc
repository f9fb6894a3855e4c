// The hash behind fingerprints.
#include "formats/fingerprint.h"

#include "tests/testing.h"

using gemcut::Hasher;

namespace {
std::string hash(std::string_view text) {
  Hasher hasher;
  hasher.add(text);
  return hasher.finish();
}
}  // namespace

// Source of the values: mmh3 5 (hash128, seed 0, x64), low and high half.
TEST(fingerprint_hash_is_murmur3) {
  CHECK_EQUAL(hash(""), "00000000000000000000000000000000");
  CHECK_EQUAL(hash("hello"), "cbd8a7b341bd9b025b1e906a48ae1d19");
  CHECK_EQUAL(hash("The quick brown fox jumps over the lazy dog"), "e34bbc7bbc071b6c7a433ca9c49a9347");
}

TEST(fingerprint_hash_is_the_same_in_any_pieces) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 7);
  for (size_t first = 0; first <= text.size(); ++first) {
    Hasher hasher;
    hasher.add(std::string_view(text).substr(0, first));
    hasher.add(std::string_view(text).substr(first));
    CHECK_EQUAL(hasher.finish(), hash(text));
  }
}
