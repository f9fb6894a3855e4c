#include "engine/state_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "formats/fingerprint.h"
#include "formats/message.h"

namespace gemcut {
namespace {

constexpr size_t hash_bytes = 32;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t cache_type;
  char model[hash_bytes];
  int64_t num_tokens;
};
static_assert(sizeof(Header) == 56 && std::is_trivially_copyable_v<Header>);
constexpr char magic[8] = {'G', 'C', 'S', 'T', 'A', 'T', 'E', '\0'};

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(ErrorKind::checkpoint, message("[engine.state_file] ", path, ": ", why));
}

const char* name_of(uint32_t cache_type) { return cache_type == static_cast<uint32_t>(CacheType::f32) ? "float32" : "bfloat16"; }

std::string_view bytes_of(const void* data, size_t count) { return {static_cast<const char*>(data), count}; }

// use(tile) for everything that the file holds of a sequence, in the file's order.
template <class Use>
void each_tile(const CpuSequence& sequence, Use&& use) {
  const CacheGeometry& geometry = sequence.geometry();
  for (size_t layer = 0; layer < geometry.slots.size(); ++layer)
    for (int64_t head = 0; head < 2 * geometry.num_key_value_heads; ++head)
      for (int64_t position = sequence.first_needed(layer) / tile_tokens * tile_tokens; position < sequence.length();
           position += tile_tokens)
        use(sequence.tile(layer, head, position));
}

// A new file that becomes `path` when all is written, and goes when it is not.
class Writer {
 public:
  explicit Writer(const std::string& path) : path_(path), unfinished_(unfinished_name(path)) {
    file_.reset(std::fopen(unfinished_.c_str(), "wbx"));
    if (!file_) fail();
  }
  ~Writer() {
    if (file_) std::remove(unfinished_.c_str());
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void add(const void* data, size_t count) {
    if (std::fwrite(data, 1, count, file_.get()) != count) fail();
    hasher_.add(bytes_of(data, count));
  }
  void finish() {
    const std::string hash = hasher_.finish();
    if (std::fwrite(hash.data(), 1, hash.size(), file_.get()) != hash.size() || std::fflush(file_.get()) != 0 ||
        ::fsync(::fileno(file_.get())) != 0 || std::rename(unfinished_.c_str(), path_.c_str()) != 0)
      fail();
    file_.reset();
  }

 private:
  // A name that no writer shares, in this process or another.
  static std::string unfinished_name(const std::string& path) {
    static std::atomic<uint32_t> writers{0};
    return message(path, ".", ::getpid(), "-", writers++, ".part");
  }
  [[noreturn]] void fail() {
    throw Error(ErrorKind::failed, message("[engine.state_file] ", path_, ": it cannot be written (", std::strerror(errno),
                                           "). Free space, or choose another place."));
  }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  const std::string path_, unfinished_;
  std::unique_ptr<std::FILE, Close> file_;
  Hasher hasher_;
};

}  // namespace

std::string hash_weights(const Config& config, const std::vector<WeightPlace>& places, const std::byte* region) {
  constexpr int64_t sample_bytes = 4096;
  Hasher hasher;
  hasher.add(config_to_json(config));
  for (const WeightPlace& place : places) {
    hasher.add(message("\n", place.name, " ", static_cast<int>(place.format), " ", place.rows, " ", place.columns, "\n"));
    hasher.add(bytes_of(region + place.offset, static_cast<size_t>(std::min(place.bytes, sample_bytes))));
  }
  return hasher.finish();
}

void write_state(const std::string& path, const StateKey& key, const CpuSequence& sequence) {
  if (sequence.length() == 0)
    throw Error(ErrorKind::usage, "[engine.state_file] sequence: it is empty, expected at least one token to save.");
  if (!sequence.holds_last_query())
    throw Error(ErrorKind::usage, message("[engine.state_file] sequence: it was truncated to ", sequence.length(),
                                          " tokens, and its sliding layers hold nothing before what the next one looks "
                                          "at. Append a token, then save it."));
  Header header{};
  std::copy(std::begin(magic), std::end(magic), header.magic);
  header.version = state_version;
  header.cache_type = static_cast<uint32_t>(key.cache_type);
  std::copy(key.model.begin(), key.model.end(), header.model);
  header.num_tokens = sequence.length();
  Writer writer(path);
  writer.add(&header, sizeof header);
  writer.add(sequence.token_ids().data(), sequence.token_ids().size() * sizeof(int32_t));
  each_tile(sequence, [&](const std::byte* tile) { writer.add(tile, static_cast<size_t>(sequence.tile_bytes())); });
  writer.finish();
}

StateFile::StateFile(const std::string& path, const StateKey& key, const Config& config)
    : file_(path), vocab_size_(config.vocab_size) {
  Header header{};
  if (file_.size() < sizeof header + hash_bytes)
    refuse(path, message("it has ", file_.size(), " bytes, which is too short for a sequence's state. Save it again."));
  file_.read_at(0, sizeof header, &header);
  if (!std::equal(std::begin(magic), std::end(magic), header.magic))
    refuse(path, "it is no state of a sequence. Give a file that save_sequence made.");
  if (header.version != state_version)
    refuse(path, message("it has version ", header.version, ", expected ", state_version,
                         ". Compute the sequence again and save it."));
  if (bytes_of(header.model, hash_bytes) != key.model)
    refuse(path, "it was saved from another model. Load the model that it belongs to.");
  if (header.cache_type != static_cast<uint32_t>(key.cache_type))
    refuse(path, message("its keys and values are ", name_of(header.cache_type), ", but this engine keeps them in ",
                         name_of(static_cast<uint32_t>(key.cache_type)), ". Load the model with the other dtype."));
  if (header.num_tokens < 1 || header.num_tokens > config.max_position_embeddings)
    refuse(path, message("it claims ", header.num_tokens, " tokens, expected 1 to ", config.max_position_embeddings,
                         ". It is damaged: save it again."));
  num_tokens_ = header.num_tokens;
}

void StateFile::read(CpuSequence& sequence) const {
  Hasher hasher;
  uint64_t offset = 0;
  const auto take = [&](void* out, size_t count) {
    file_.read_at(offset, count, out);
    hasher.add(bytes_of(out, count));
    offset += count;
  };
  Header header{};
  std::vector<int32_t> token_ids(static_cast<size_t>(num_tokens_));
  const uint64_t token_bytes = token_ids.size() * sizeof(int32_t);
  take(&header, sizeof header);
  if (file_.size() - sizeof header - hash_bytes < token_bytes)
    refuse(file_.path(), message("it has ", file_.size(), " bytes, which is too short for ", num_tokens_,
                                 " tokens: it was cut off. Save it again."));
  take(token_ids.data(), token_bytes);
  for (const int32_t token_id : token_ids)
    if (token_id < 0 || token_id >= vocab_size_)
      refuse(file_.path(), message("it has token id ", token_id, ", expected 0 to ", vocab_size_ - 1,
                                   ". It is damaged: save it again."));
  sequence.adopt(std::move(token_ids));
  uint64_t tiles = 0;
  each_tile(sequence, [&](const std::byte*) { ++tiles; });
  const uint64_t expected = offset + tiles * static_cast<uint64_t>(sequence.tile_bytes()) + hash_bytes;
  if (file_.size() != expected)
    refuse(file_.path(), message("it has ", file_.size(), " bytes, expected ", expected, " for ", num_tokens_,
                                 " tokens: it was cut off or is damaged. Save it again."));
  each_tile(sequence, [&](std::byte* tile) { take(tile, static_cast<size_t>(sequence.tile_bytes())); });
  std::array<char, hash_bytes> hash;
  file_.read_at(offset, hash_bytes, hash.data());
  if (hasher.finish() != std::string_view(hash.data(), hash_bytes))
    refuse(file_.path(), "its contents do not agree with its checksum: it is damaged. Save it again.");
}

}  // namespace gemcut
