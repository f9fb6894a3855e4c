// What the rings of the sliding layers have overwritten, kept aside in blocks of 64 positions, so that a sequence can go
// back to an earlier place without being computed again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

namespace gemcut {

inline constexpr int64_t snapshot_tokens = 64;  // of one block; divides the slots of every ring

// Blocks by index: block i holds positions [64 i, 64 (i + 1)) of all sliding layers. Copies share the blocks.
class Snapshots {
 public:
  // Keeps up to max_bytes of blocks of block_bytes each; `window` is that of the sliding layers. 0 bytes: none.
  void enable(int64_t max_bytes, int64_t block_bytes, int64_t window);
  // Whether a block that is about to be overwritten should be added; if so, there is room for it.
  bool wants(int64_t index);
  // Memory for a block that add() then keeps; not initialised.
  std::shared_ptr<std::byte[]> make_block() const;
  void add(int64_t index, std::shared_ptr<std::byte[]> block);
  // Null where it is not kept.
  const std::byte* find(int64_t index) const;
  // Forgets what reaches beyond the first `length` positions.
  void truncate(int64_t length);
  // The most that texts of max_tokens tokens ever keep: what leaves the window of the sliding layers.
  static int64_t max_bytes(int64_t max_bytes, int64_t block_bytes, int64_t window, int64_t max_tokens);
  int64_t num_bytes() const { return static_cast<int64_t>(blocks_.size()) * block_bytes_; }

 private:
  bool serves(int64_t index) const;

  std::map<int64_t, std::shared_ptr<const std::byte[]>> blocks_;
  int64_t max_bytes_ = 0, block_bytes_ = 0, window_ = 0;
  int64_t stride_ = 1;  // blocks between the places that can be gone back to
};

}  // namespace gemcut
