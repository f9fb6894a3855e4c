// A sequence's tokens, keys and values in a file, for another process to go on from.
//
// magic, version, cache type, hash of the model, number of tokens, token ids, then layer by layer and head by head the
// tiles of 16 positions that the next token looks at, and at the end a hash of everything before it.
#pragma once

#include <cstdint>
#include <string>

#include "engine/sequence.h"
#include "engine/weights.h"
#include "formats/config.h"
#include "formats/mapped_file.h"

namespace gemcut {

// Raised with every change of the format or of how keys and values lie in a tile.
inline constexpr uint32_t state_version = 1;

// What a file must have been made with to be of use.
struct StateKey {
  std::string model;  // hash_weights
  CacheType cache_type;
};

// 32 hexadecimal digits that tell models apart: of the configuration and of the first 4 KiB of every packed tensor.
std::string hash_weights(const Config& config, const std::vector<WeightPlace>& places, const std::byte* region);

// Writes beside `path` first, then renames. Throws usage for a sequence that is empty, or was truncated to where its
// sliding layers end; failed where the disk refuses.
void write_state(const std::string& path, const StateKey& key, const CpuSequence& sequence);

class StateFile {
 public:
  // Throws not_found, and checkpoint for a file that is none, damaged or of another version, model or cache type.
  StateFile(const std::string& path, const StateKey& key, const Config& config);
  int64_t num_tokens() const { return num_tokens_; }
  // Into a new sequence with room for them. Throws checkpoint where the file is damaged.
  void read(CpuSequence& sequence) const;

 private:
  MappedFile file_;
  const int64_t vocab_size_;
  int64_t num_tokens_ = 0;
};

}  // namespace gemcut
