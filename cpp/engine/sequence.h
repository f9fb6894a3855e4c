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
#include "kernels/kernels.h"

namespace gemcut {

inline constexpr int64_t max_pass_rows = 512;  // tokens computed together

// Slots of each kind of layer, for sequences of up to `max_tokens` tokens; multiples of attention_block.
struct CacheGeometry {
  CacheGeometry(const Config& config, CacheType type, int64_t max_tokens);

  int64_t capacity = 0;
  std::vector<int64_t> slots;           // of each layer
  std::vector<int64_t> layer_offset;    // of each layer's keys in the memory; its values follow
  int64_t head_bytes(size_t layer) const { return slots[layer] * head_dim * element_bytes; }  // of one KV head's keys
  int64_t bytes = 0;
  int64_t head_dim = 0, num_key_value_heads = 0, element_bytes = 0;
};

// Zeroed memory of ended sequences, kept for the next: the system takes longer to hand out fresh pages than a short
// prompt takes to compute.
class CacheMemory {
 public:
  std::shared_ptr<std::byte> take(int64_t bytes);
  void give_back(std::shared_ptr<std::byte> memory, int64_t bytes);

 private:
  static constexpr int64_t max_kept_bytes = int64_t{512} << 20;
  std::mutex mutex_;
  std::multimap<int64_t, std::shared_ptr<std::byte>> kept_;
  int64_t kept_bytes_ = 0;
};

class CpuSequence : public Sequence {
 public:
  CpuSequence(const Config& config, CacheType type, int64_t max_tokens, std::shared_ptr<CacheMemory> source);
  ~CpuSequence() override;
  CpuSequence(const CpuSequence&) = delete;
  CpuSequence& operator=(const CpuSequence&) = delete;

  int64_t length() const override { return static_cast<int64_t>(token_ids_.size()); }
  int64_t capacity() const override { return geometry_.capacity; }
  const std::vector<int32_t>& token_ids() const override { return token_ids_; }
  int64_t num_bytes() const override { return geometry_.bytes; }

  std::byte* keys(size_t layer, int64_t kv_head) {
    return memory_.get() + geometry_.layer_offset[layer] + kv_head * geometry_.head_bytes(layer);
  }
  std::byte* values(size_t layer, int64_t kv_head) {
    return keys(layer, kv_head) + geometry_.num_key_value_heads * geometry_.head_bytes(layer);
  }
  int64_t slots(size_t layer) const { return geometry_.slots[layer]; }

  void append(std::span<const int32_t> token_ids);
  void truncate_tokens(int64_t length) { token_ids_.resize(static_cast<size_t>(length)); }
  // Whether every layer still holds what a query at position `length` looks at.
  bool can_truncate(int64_t length) const;
  // Copies tokens, keys and values of a sequence whose layers have the same kinds.
  void copy_from(const CpuSequence& other);

 private:
  CacheGeometry geometry_;
  std::vector<int64_t> windows_;        // of each layer; 0: all
  std::vector<int32_t> token_ids_;
  int64_t written_ = 0;                 // positions ever written, from 0
  const std::shared_ptr<CacheMemory> source_;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace gemcut
