// The keys and values of one text.
//
// A full-attention layer has a slot for every position up to the capacity; a sliding layer has a ring of its window and
// one pass's tokens more, so that a pass may write its keys before its first query has looked back. Position p lies in
// slot p % slots.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/engine.h"
#include "engine/snapshot.h"
#include "kernels/kernels.h"

namespace gemcut {

inline constexpr int64_t max_pass_rows = 256;  // tokens computed together: enough to hide the reading, and little memory
inline constexpr int64_t tile_tokens = 16;     // positions that lie together in the cache

enum class Kept : uint8_t { window, all };  // which positions a sliding layer has slots for

// Slots of each kind of layer, for sequences of up to `max_tokens` tokens; multiples of attention_block.
// Throws out_of_memory where the bytes are no 64-bit number.
struct CacheGeometry {
  CacheGeometry(const Config& config, CacheType type, int64_t max_tokens, Kept kept = Kept::window);

  int64_t capacity = 0;
  std::vector<int64_t> slots;           // of each layer
  std::vector<int64_t> layer_offset;    // of each layer's keys in the memory; its values follow
  int64_t head_bytes(size_t layer) const { return slots[layer] * head_dim * element_bytes; }  // of one KV head's keys
  int64_t bytes = 0;
  int64_t snapshot_bytes = 0;           // of one block of snapshots: 64 positions of all sliding layers
  int64_t head_dim = 0, num_key_value_heads = 0, element_bytes = 0;
};

// Zeroed memory of ended sequences, kept for the next: the system takes longer to hand out fresh pages than a short
// prompt takes to compute.
class CacheMemory {
 public:
  std::shared_ptr<std::byte> take(int64_t bytes);
  void give_back(std::shared_ptr<std::byte> memory, int64_t bytes);
  // Keeps no more than that, nor than most_kept_bytes.
  void set_max_bytes(int64_t max_bytes);
  int64_t num_bytes() const;

 private:
  static constexpr int64_t most_kept_bytes = int64_t{512} << 20;
  mutable std::mutex mutex_;
  int64_t max_bytes_ = most_kept_bytes;
  std::multimap<int64_t, std::shared_ptr<std::byte>> kept_;
  int64_t kept_bytes_ = 0;
};

class CpuSequence : public Sequence {
 public:
  CpuSequence(const Config& config, CacheType type, int64_t max_tokens, std::shared_ptr<CacheMemory> source,
              Kept kept = Kept::window);
  // A text that begins with the first `length` tokens of another one, which keeps all positions. Whole blocks of them it
  // reads in the memory of that one (or of the one whose memory that reads itself), which outlives it and stays as it is.
  // It can go back to no less than these.
  CpuSequence(const Config& config, CacheType type, CpuSequence& other, int64_t length, int64_t max_tokens);
  ~CpuSequence() override;
  CpuSequence(const CpuSequence&) = delete;
  CpuSequence& operator=(const CpuSequence&) = delete;

  int64_t length() const override { return static_cast<int64_t>(token_ids_.size()); }
  int64_t capacity() const override { return num_shared_ + geometry_.capacity; }
  const std::vector<int32_t>& token_ids() const override { return token_ids_; }
  int64_t num_bytes() const override { return geometry_.bytes + snapshots_.num_bytes(); }

  std::byte* keys(size_t layer, int64_t kv_head) {
    return memory_.get() + geometry_.layer_offset[layer] + kv_head * geometry_.head_bytes(layer);
  }
  std::byte* values(size_t layer, int64_t kv_head) {
    return keys(layer, kv_head) + geometry_.num_key_value_heads * geometry_.head_bytes(layer);
  }
  int64_t slots(size_t layer) const { return geometry_.slots[layer]; }
  int64_t slot(size_t layer, int64_t position) const { return (position - num_shared_) % geometry_.slots[layer]; }
  // The text whose memory holds the first num_shared() positions; null for none.
  CpuSequence* shared() { return shared_; }
  int64_t num_shared() const { return num_shared_; }

  // From now on, what the rings overwrite is kept in up to max_bytes.
  void keep_snapshots(int64_t max_bytes);
  void append(std::span<const int32_t> token_ids);
  // The longest beginning, of at most `length` tokens, whose next token would find all it looks at.
  int64_t restorable(int64_t length) const;
  // Forgets all but the first `length` tokens; false, with nothing changed, where restorable(length) is less.
  bool truncate(int64_t length);
  // Copies the first `length` tokens, keys and values of a sequence whose layers have the same kinds, into a new one.
  // `length` is restorable there.
  void copy_from(const CpuSequence& other, int64_t length);

  // Memory of keys (head < K) or values (K <= head < 2 K) of the 16 positions from `position`, a multiple of 16.
  std::byte* tile(size_t layer, int64_t head, int64_t position) const {
    if (position < num_shared_) return shared_->tile(layer, head, position);
    return memory_.get() + geometry_.layer_offset[layer] + head * geometry_.head_bytes(layer) +
           slot(layer, position) * geometry_.head_dim * geometry_.element_bytes;
  }
  int64_t tile_bytes() const { return tile_tokens * geometry_.head_dim * geometry_.element_bytes; }
  const CacheGeometry& geometry() const { return geometry_; }
  // First position that the query at the last token looks at in a layer.
  int64_t first_needed(size_t layer) const;
  // Whether every layer holds it.
  bool holds_last_query() const;
  // Takes over tokens whose keys and values, from first_needed() on, the caller then writes into the tiles. For a new
  // sequence.
  void adopt(std::vector<int32_t> token_ids);

 private:
  int64_t shareable(int64_t length) const;  // of the first `length` positions, what a text that begins with them may read
  int64_t oldest_kept(size_t layer) const;  // first position that a layer still holds; may be negative
  int64_t ring_oldest() const;              // the same of the sliding layers; 0 without any
  // Before positions up to `length` are written: what they overwrite goes to the snapshots.
  void keep_overwritten(int64_t length);
  // Brings back from the snapshots what the ring lacks for a next token at `length`.
  void restore(int64_t length);
  // Calls use(tile in the rings, place in a block) for the tiles of block `index` that begin before position `end`.
  template <class Use>
  void each_block_tile(int64_t index, int64_t end, Use&& use) const;

  CpuSequence* shared_ = nullptr;
  int64_t num_shared_ = 0;              // a multiple of attention_block
  const Kept kept_;
  CacheGeometry geometry_;              // of the positions from num_shared_ on
  std::vector<int64_t> windows_;        // of each layer; 0: all
  int64_t window_ = 0;                  // of the sliding layers; 0 without any
  size_t sliding_layer_ = 0;            // one of them
  std::vector<int32_t> token_ids_;
  int64_t written_ = 0;                 // positions written since the text began, from 0
  int64_t used_ = 0;                    // slots from 0 that may hold something
  int64_t lost_ = 0;                    // sliding layers hold no position below it: they were not copied
  Snapshots snapshots_;
  const std::shared_ptr<CacheMemory> source_;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace gemcut
