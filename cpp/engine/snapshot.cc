#include "engine/snapshot.h"

namespace gemcut {

void Snapshots::enable(int64_t max_bytes, int64_t block_bytes, int64_t window) {
  max_bytes_ = max_bytes;
  block_bytes_ = block_bytes;
  window_ = window;
}

bool Snapshots::wants(int64_t index) const { return max_bytes_ > 0 && !blocks_.contains(index) && serves(index); }

// Whether the query at the next place to go back to looks at the block.
bool Snapshots::serves(int64_t index) const {
  const int64_t place = (index / stride_ + 1) * stride_ * snapshot_tokens;
  return (index + 1) * snapshot_tokens > place - window_ + 1;
}

std::shared_ptr<std::byte[]> Snapshots::make_block() const {
  return std::make_shared_for_overwrite<std::byte[]>(static_cast<size_t>(block_bytes_));
}

// Where the bytes do not suffice for every place, every second one goes, until they do.
void Snapshots::add(int64_t index, std::shared_ptr<std::byte[]> block) {
  blocks_.emplace(index, std::move(block));
  while (num_bytes() > max_bytes_) {
    stride_ *= 2;
    std::erase_if(blocks_, [this](const auto& item) { return !serves(item.first); });
  }
}

const std::byte* Snapshots::find(int64_t index) const {
  const auto found = blocks_.find(index);
  return found == blocks_.end() ? nullptr : found->second.get();
}

void Snapshots::truncate(int64_t length) { blocks_.erase(blocks_.lower_bound(length / snapshot_tokens), blocks_.end()); }

}  // namespace gemcut
