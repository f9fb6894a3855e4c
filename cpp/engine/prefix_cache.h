// Ended sequences that wait for a text with the same beginning.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "engine/engine.h"

namespace gemcut {

// Tokens that two texts must share for one to go on from the other.
inline constexpr int64_t min_reused_tokens = 16;

// Tokens that two texts have in common at their beginning.
int64_t common_prefix(std::span<const int32_t> one, std::span<const int32_t> other);

// Used by one thread at a time; gone before its engine.
class PrefixCache {
 public:
  // Keeps sequences of up to max_bytes together, the least recently used go first; 0 keeps none.
  PrefixCache(Engine& engine, int64_t max_bytes) : engine_(engine), max_bytes_(max_bytes) {}
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  int64_t max_bytes() const { return max_bytes_; }
  // What the snapshots of one sequence may take.
  int64_t snapshot_bytes() const { return max_bytes_ / 4; }
  // The most of `token_ids`, but never the last of them, that take() would find; 0 where it is not worth it.
  int64_t find(std::span<const int32_t> token_ids) const;
  // A sequence with room for max_tokens that holds as many of `token_ids` as find() says: the kept one itself if it is
  // wholly part of the text and its memory is that of a new one, else a copy. Null if none. Throws out_of_memory.
  std::unique_ptr<Sequence> take(std::span<const int32_t> token_ids, int64_t max_tokens);
  // Takes in an ended sequence, unless it is too short or already known. Never throws: where memory lacks, it is gone.
  void keep(std::unique_ptr<Sequence> sequence);
  void set_max_bytes(int64_t max_bytes);
  void clear() { kept_.clear(); }
  int64_t num_bytes() const;

 private:
  using Kept = std::list<std::unique_ptr<Sequence>>;  // most recently used first
  struct Match {
    Kept::const_iterator kept;
    int64_t length = 0;
  };
  Match best_match(std::span<const int32_t> token_ids) const;
  bool absorb(const Sequence& sequence);
  void make_room();

  Engine& engine_;
  int64_t max_bytes_;
  Kept kept_;
};

}  // namespace gemcut
