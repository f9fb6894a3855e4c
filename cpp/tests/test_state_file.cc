// Saved sequences go on in another engine as they would have; damaged and foreign files are refused by name.
#include "engine/state_file.h"

#include <cstring>
#include <filesystem>
#include <string>

#include "formats/error.h"
#include "formats/fingerprint.h"
#include "tests/files.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

std::string contents(const std::string& path) { return read_file(path, uint64_t{1} << 30, ErrorKind::failed); }

// A saved sequence of a tiny Gemma 3, and the engine it belongs to.
struct Saved {
  explicit Saved(int64_t num_tokens = 40)
      : checkpoint(family_config("gemma3"), {TensorType::q8_0}), engine(tiny_engine(checkpoint)),
        tokens(random_tokens(checkpoint.config(), num_tokens, 1)) {
    const auto sequence = engine->new_sequence(num_tokens);
    append(*engine, *sequence, tokens);
    path = folder.path() + "state";
    engine->save_sequence(*sequence, path);
    bytes = contents(path);
  }
  std::unique_ptr<Sequence> load(const std::string& changed) const {
    return engine->load_sequence(folder.write("changed", changed), 100);
  }
  // The file with `count` bytes of it replaced.
  std::string with(size_t offset, const void* data, size_t count) const {
    std::string changed = bytes;
    std::memcpy(changed.data() + offset, data, count);
    return changed;
  }

  const TemporaryFolder folder;
  const TinyCheckpoint checkpoint;
  const std::unique_ptr<Engine> engine;
  const std::vector<int32_t> tokens;
  std::string path, bytes;
};

constexpr size_t version_place = 8, cache_type_place = 12, model_place = 16, count_place = 48, tokens_place = 56;

// The right checksum for contents that are not.
std::string sealed(std::string bytes) {
  Hasher hasher;
  hasher.add(std::string_view(bytes).substr(0, bytes.size() - 32));
  return bytes.replace(bytes.size() - 32, 32, hasher.finish());
}

}  // namespace

TEST(state_file_goes_on_exactly_in_another_engine) {
  for (const std::string& family : families())
    for (const CacheType type : {CacheType::bf16, CacheType::f32})
      for (const int64_t length : {1, 9, 64, 100, 1300}) {
        const TemporaryFolder folder;
        const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0, TensorType::q4_0});
        const auto engine = tiny_engine(checkpoint, 2, type), other = tiny_engine(checkpoint, 1, type);
        const auto tokens = random_tokens(checkpoint.config(), length, 1), more = random_tokens(checkpoint.config(), 600, 2);
        const auto sequence = engine->new_sequence(2000);
        append(*engine, *sequence, tokens);
        engine->save_sequence(*sequence, folder.path() + "state");
        const auto loaded = other->load_sequence(folder.path() + "state", length + 600);
        CHECK(loaded->token_ids() == tokens);
        CHECK_EQUAL(loaded->capacity(), length + 600);
        // The last token can be computed again: its logits are not in the file.
        const std::vector<int32_t> last = {tokens.back()};
        CHECK(other->truncate(*loaded, length - 1));
        append(*other, *loaded, last);
        const auto wanted = append(*engine, *sequence, more, Rows::all), found = append(*other, *loaded, more, Rows::all);
        check_same_bits(family + " of " + std::to_string(length), found.data(), wanted.data(), static_cast<int64_t>(found.size()));
      }
}

TEST(state_file_holds_no_more_of_a_sliding_layer_than_its_window) {
  const Saved small(104), large(2000);
  // Of the sliding layers one tile each. One full layer of six, 2 KV heads of width 16, keys and values of 2 bytes, whole tiles of 16; and the tokens.
  const size_t grown = (2000 - 112) * 2 * 16 * 2 * 2 + 1896 * 4;
  CHECK_EQUAL(large.bytes.size() - small.bytes.size(), grown);
}

TEST(state_file_of_another_model_version_or_cache_type_is_refused) {
  const Saved saved;
  const TinyCheckpoint same_shapes(family_config("gemma3"), {TensorType::q8_0}, 2), other_types(family_config("gemma3"), {TensorType::q4_0});
  Config config = family_config("gemma3");
  config.sliding_window = 9;
  const TinyCheckpoint other_config(config, {TensorType::q8_0});
  for (const TinyCheckpoint* other : {&same_shapes, &other_types, &other_config})
    CHECK_THROWS(tiny_engine(*other)->load_sequence(saved.path, 100),
                 "[engine.state_file] " + saved.path + ": it was saved from another model. Load the model that it belongs to.");
  CHECK_THROWS(tiny_engine(saved.checkpoint, 1, CacheType::f32)->load_sequence(saved.path, 100),
               "its keys and values are bfloat16, but this engine keeps them in float32. Load the model with the other dtype.");
  const uint32_t version = 2;
  CHECK_THROWS(saved.load(saved.with(version_place, &version, 4)),
               "it has version 2, expected 1. Compute the sequence again and save it.");
  CHECK_THROWS(saved.engine->load_sequence(saved.path, 39),
               "[engine.engine] " + saved.path + ": its sequence has 40 tokens, which do not fit a cache of 39.");
  CHECK_THROWS(saved.engine->load_sequence(saved.folder.path() + "none", 100), "none");
  CHECK_EQUAL(tiny_engine(saved.checkpoint)->load_sequence(saved.path, 40)->length(), 40);
}

TEST(state_file_cut_off_anywhere_is_refused) {
  const Saved saved;
  for (size_t size = 0; size < saved.bytes.size(); size += size < 300 ? 1 : 97) {
    const std::string part = saved.bytes.substr(0, size);
    const char* why = size < 88 ? "bytes, which is too short for a sequence's state. Save it again."
                      : size < 88 + 160 ? "bytes, which is too short for 40 tokens: it was cut off. Save it again."
                                        : " for 40 tokens: it was cut off or is damaged. Save it again.";
    CHECK_THROWS(saved.load(part), why);
  }
  CHECK_THROWS(saved.load(saved.bytes + "x"), "for 40 tokens: it was cut off or is damaged. Save it again.");
}

TEST(state_file_with_a_flipped_bit_is_refused) {
  const Saved saved;
  for (size_t place = 0; place < saved.bytes.size(); place += place < 300 ? 1 : 61) {
    const char flipped = static_cast<char>(saved.bytes[place] ^ 4);
    const char* why = place < version_place       ? "it is no state of a sequence. Give a file that save_sequence made."
                      : place < cache_type_place  ? "it has version "
                      : place < model_place       ? "its keys and values are "
                      : place < count_place       ? "another model"
                                                  : "";
    CHECK_THROWS(saved.load(saved.with(place, &flipped, 1)), why);
  }
  CHECK_THROWS(saved.load(saved.with(saved.bytes.size() - 40, "x", 1)),
               "its contents do not agree with its checksum: it is damaged. Save it again.");
}

TEST(state_file_with_impossible_numbers_is_refused) {
  const Saved saved;
  for (const int64_t count : {int64_t{0}, int64_t{-1}, int64_t{4097}, INT64_MAX, INT64_MIN})
    CHECK_THROWS(saved.load(sealed(saved.with(count_place, &count, 8))),
                 "it claims " + std::to_string(count) + " tokens, expected 1 to 4096. It is damaged: save it again.");
  for (const int32_t token_id : {-1, 300})
    CHECK_THROWS(saved.load(sealed(saved.with(tokens_place + 4, &token_id, 4))),
                 "it has token id " + std::to_string(token_id) + ", expected 0 to 299. It is damaged: save it again.");
}

TEST(state_file_is_there_whole_or_not_at_all) {
  const Saved saved;
  const auto sequence = saved.engine->new_sequence(700);
  CHECK_THROWS(saved.engine->save_sequence(*sequence, saved.folder.path() + "empty"),
               "[engine.state_file] sequence: it is empty, expected at least one token to save.");
  append(*saved.engine, *sequence, random_tokens(saved.checkpoint.config(), 650, 3));
  CHECK(saved.engine->truncate(*sequence, 337));  // 650 - 320 = 330: what the next token looks at begins there
  CHECK_THROWS(saved.engine->save_sequence(*sequence, saved.path),
               "it was truncated to 337 tokens, and its sliding layers hold nothing before what the next one looks at. "
               "Append a token, then save it.");
  CHECK_THROWS(saved.engine->save_sequence(*sequence, saved.folder.path() + "no/where"), "sliding layers");
  append(*saved.engine, *sequence, std::span(saved.tokens).first(1));
  CHECK_THROWS(saved.engine->save_sequence(*sequence, saved.folder.path() + "no/where"),
               "no/where: it cannot be written (No such file or directory). Free space, or choose another place.");
  CHECK_THROWS(saved.engine->save_sequence(*sequence, saved.folder.path() + "."), "it cannot be written");
  CHECK(contents(saved.path) == saved.bytes);
  // What is there is replaced, and nothing else is left in the folder.
  saved.engine->save_sequence(*sequence, saved.path);
  CHECK_EQUAL(saved.engine->load_sequence(saved.path, 400)->length(), 338);
  const std::filesystem::directory_iterator files(saved.folder.path());
  CHECK_EQUAL(std::distance(begin(files), end(files)), 1);
}
