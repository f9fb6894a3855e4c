#include "engine/snapshot.h"

#include <algorithm>

namespace gemcut {

void Snapshots::enable(int64_t max_bytes, int64_t block_bytes, int64_t window) {
  max_bytes_ = max_bytes;
  block_bytes_ = block_bytes;
  window_ = window;
}

// Where the bytes do not suffice for every place, every second one goes, until they do: before the block is made, so
// that no more is ever held.
bool Snapshots::wants(int64_t index) {
  if (block_bytes_ > max_bytes_ || max_bytes_ == 0 || blocks_.contains(index) || !serves(index)) return false;
  while (num_bytes() + block_bytes_ > max_bytes_) {
    stride_ *= 2;
    std::erase_if(blocks_, [this](const auto& item) { return !serves(item.first); });
    if (!serves(index)) return false;
  }
  return true;
}

// Whether the query at the next place to go back to looks at the block.
bool Snapshots::serves(int64_t index) const {
  const int64_t place = (index / stride_ + 1) * stride_ * snapshot_tokens;
  return (index + 1) * snapshot_tokens > place - window_ + 1;
}

std::shared_ptr<std::byte[]> Snapshots::make_block() const {
  return std::make_shared_for_overwrite<std::byte[]>(static_cast<size_t>(block_bytes_));
}

void Snapshots::add(int64_t index, std::shared_ptr<std::byte[]> block) { blocks_.emplace(index, std::move(block)); }

const std::byte* Snapshots::find(int64_t index) const {
  const auto found = blocks_.find(index);
  return found == blocks_.end() ? nullptr : found->second.get();
}

void Snapshots::truncate(int64_t length) { blocks_.erase(blocks_.lower_bound(length / snapshot_tokens), blocks_.end()); }

int64_t Snapshots::max_bytes(int64_t max_bytes, int64_t block_bytes, int64_t window, int64_t max_tokens) {
  if (block_bytes == 0) return 0;
  const int64_t left = std::max<int64_t>(0, max_tokens - window);
  return std::min(max_bytes / block_bytes, left / snapshot_tokens + (left % snapshot_tokens > 0)) * block_bytes;
}

}  // namespace gemcut
