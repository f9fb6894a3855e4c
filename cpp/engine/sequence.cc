#include "engine/sequence.h"

#include <algorithm>
#include <cstring>

#include "engine/weights.h"
#include "formats/error.h"

namespace gemcut {
namespace {

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

CacheGeometry::CacheGeometry(const Config& config, CacheType type, int64_t max_tokens, Kept kept)
    : capacity(max_tokens),
      head_dim(config.head_dim),
      num_key_value_heads(config.num_key_value_heads),
      element_bytes(type == CacheType::f32 ? 4 : 2) {
  constexpr int64_t most_tokens = int64_t{1} << 48;  // more than any memory holds; sums below cannot overflow
  const int64_t all = round_up(std::clamp<int64_t>(max_tokens, 1, most_tokens), attention_block);
  const int64_t window = std::min(config.sliding_window.value_or(0), all);
  for (const LayerType kind : config.layer_types) {
    const int64_t ring = round_up(window + max_pass_rows, attention_block);
    slots.push_back(kind == LayerType::sliding_attention && kept == Kept::window ? std::min(all, ring) : all);
    layer_offset.push_back(bytes);
    if (window && kind == LayerType::sliding_attention)
      snapshot_bytes += snapshot_tokens * 2 * num_key_value_heads * head_dim * element_bytes;
    int64_t layer_bytes = 0;
    if (max_tokens > most_tokens ||
        __builtin_mul_overflow(slots.back(), 2 * num_key_value_heads * head_dim * element_bytes, &layer_bytes) ||
        __builtin_add_overflow(bytes, layer_bytes, &bytes))
      throw Error(ErrorKind::out_of_memory, "[engine.sequence] a sequence of " + std::to_string(max_tokens) +
                                                " tokens needs more memory than any machine has. Take a smaller context.");
  }
}

std::shared_ptr<std::byte> CacheMemory::take(int64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(bytes);
    if (found != kept_.end()) {
      std::shared_ptr<std::byte> memory = std::move(found->second);
      kept_.erase(found);
      kept_bytes_ -= bytes;
      return memory;
    }
  }
  return allocate_region(bytes, false);
}

void CacheMemory::give_back(std::shared_ptr<std::byte> memory, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (kept_bytes_ + bytes > max_bytes_) return;
  kept_.emplace(bytes, std::move(memory));
  kept_bytes_ += bytes;
}

void CacheMemory::set_max_bytes(int64_t max_bytes) {
  const std::lock_guard lock(mutex_);
  max_bytes_ = std::min(max_bytes, most_kept_bytes);
  while (kept_bytes_ > max_bytes_) {
    kept_bytes_ -= kept_.begin()->first;
    kept_.erase(kept_.begin());
  }
}

int64_t CacheMemory::num_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

CpuSequence::CpuSequence(const Config& config, CacheType type, int64_t max_tokens, std::shared_ptr<CacheMemory> source,
                         Kept kept)
    : kept_(kept),
      geometry_(config, type, max_tokens, kept),
      source_(std::move(source)),
      memory_(source_->take(geometry_.bytes)) {
  for (const LayerType kind : config.layer_types) {
    windows_.push_back(kind == LayerType::sliding_attention ? config.sliding_window.value_or(0) : 0);
    if (!windows_.back()) continue;
    window_ = windows_.back();
    sliding_layer_ = windows_.size() - 1;
  }
}

CpuSequence::CpuSequence(const Config& config, CacheType type, CpuSequence& other, int64_t length, int64_t max_tokens)
    : CpuSequence(config, type, max_tokens - other.shareable(length), other.source_, Kept::all) {
  num_shared_ = other.shareable(length);
  if (num_shared_) shared_ = other.shared_ ? other.shared_ : &other;
  for (size_t layer = 0; layer < windows_.size(); ++layer)
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head)
      for (int64_t position = num_shared_; position < length; position += tile_tokens)
        std::memcpy(tile(layer, head, position), other.tile(layer, head, position), static_cast<size_t>(tile_bytes()));
  token_ids_.assign(other.token_ids_.begin(), other.token_ids_.begin() + length);
  written_ = used_ = length;
}

int64_t CpuSequence::shareable(int64_t length) const {
  return shared_ ? num_shared_ : length / attention_block * attention_block;
}

// A value that is not finite would spoil what comes after it even at weight zero, so the memory goes back clean.
CpuSequence::~CpuSequence() {
  const int64_t width = geometry_.head_dim * geometry_.element_bytes;
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    const int64_t used = std::min(round_up(used_ - num_shared_, 16), geometry_.slots[layer]) * width;
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head)
      std::memset(memory_.get() + geometry_.layer_offset[layer] + head * geometry_.head_bytes(layer), 0,
                  static_cast<size_t>(used));
  }
  source_->give_back(std::move(memory_), geometry_.bytes);
}

int64_t CpuSequence::oldest_kept(size_t layer) const {
  return windows_[layer] && kept_ == Kept::window ? std::max(lost_, written_ - geometry_.slots[layer]) : 0;
}

// All sliding layers have the same window and as many slots.
int64_t CpuSequence::ring_oldest() const {
  return window_ ? std::max<int64_t>(0, oldest_kept(sliding_layer_)) : 0;
}

void CpuSequence::keep_snapshots(int64_t max_bytes) {
  if (window_) snapshots_.enable(max_bytes, geometry_.snapshot_bytes, window_);
}

template <class Use>
void CpuSequence::each_block_tile(int64_t index, int64_t end, Use&& use) const {
  int64_t place = 0;
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    if (!windows_[layer]) continue;
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head)
      for (int64_t position = index * snapshot_tokens; position < (index + 1) * snapshot_tokens; position += tile_tokens) {
        if (position < end) use(tile(layer, head, position), place);
        place += tile_bytes();
      }
  }
}

// A ring has at least 64 slots more than the window and the tokens of one pass, rounded down to blocks: a block that the
// next pass overwrites was complete before it.
void CpuSequence::keep_overwritten(int64_t length) {
  if (!window_ || kept_ == Kept::all) return;
  const int64_t first = round_up(ring_oldest(), snapshot_tokens) / snapshot_tokens;
  for (int64_t index = first; index * snapshot_tokens < length - geometry_.slots[sliding_layer_]; ++index) {
    if (!snapshots_.wants(index)) continue;
    std::shared_ptr<std::byte[]> block = snapshots_.make_block();
    each_block_tile(index, (index + 1) * snapshot_tokens, [&](const std::byte* tile, int64_t place) {
      std::memcpy(block.get() + place, tile, static_cast<size_t>(tile_bytes()));
    });
    snapshots_.add(index, std::move(block));
  }
}

void CpuSequence::append(std::span<const int32_t> token_ids) {
  keep_overwritten(length() + static_cast<int64_t>(token_ids.size()));
  token_ids_.insert(token_ids_.end(), token_ids.begin(), token_ids.end());
  written_ = std::max(written_, length());
  used_ = std::max(used_, written_);
}

int64_t CpuSequence::restorable(int64_t length) const {
  const int64_t oldest = ring_oldest();
  while (length > 0) {
    const int64_t first = std::max<int64_t>(0, length - window_ + 1);
    if (!window_ || first >= oldest) return length;
    int64_t index = (std::min(oldest, length) - 1) / snapshot_tokens;
    while (index >= first / snapshot_tokens && snapshots_.find(index)) --index;
    if (index < first / snapshot_tokens) return length;
    length = index * snapshot_tokens;  // whatever is longer looks at the missing block
  }
  return 0;
}

// Blocks come back whole, so that what a later truncation needs lies either in the ring or in a block.
void CpuSequence::restore(int64_t length) {
  const int64_t first = std::max<int64_t>(0, length - window_ + 1), end = std::min(ring_oldest(), length);
  int64_t oldest = ring_oldest();
  for (int64_t index = (end + snapshot_tokens - 1) / snapshot_tokens - 1; index >= first / snapshot_tokens; --index) {
    const std::byte* const block = snapshots_.find(index);
    if (!block) break;
    each_block_tile(index, end, [&](std::byte* tile, int64_t place) {
      std::memcpy(tile, block + place, static_cast<size_t>(tile_bytes()));
    });
    oldest = index * snapshot_tokens;
  }
  if (oldest == ring_oldest()) return;
  lost_ = oldest;
  written_ = length;  // what stood behind may be overwritten by now
}

bool CpuSequence::truncate(int64_t length) {
  if (length < 0 || length > this->length() || restorable(length) != length) return false;
  if (length == 0) written_ = lost_ = 0;  // a new text looks back at nothing of the old one
  else if (window_) restore(length);
  token_ids_.resize(static_cast<size_t>(length));
  snapshots_.truncate(length);
  return true;
}

// Two rings of different lengths never both wrap: the shorter one has a slot for every position of its sequence.
void CpuSequence::copy_from(const CpuSequence& other, int64_t length) {
  lost_ = std::min(length, other.ring_oldest());
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    const int64_t begin = windows_[layer] ? lost_ / tile_tokens * tile_tokens : 0;
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head)
      for (int64_t position = begin; position < length; position += tile_tokens)
        std::memcpy(tile(layer, head, position), other.tile(layer, head, position), static_cast<size_t>(tile_bytes()));
  }
  token_ids_.assign(other.token_ids_.begin(), other.token_ids_.begin() + length);
  written_ = used_ = length;
  snapshots_ = other.snapshots_;
  truncate(length);
  snapshots_.truncate(ring_oldest());  // what lies in the ring is kept once it is overwritten
}

int64_t CpuSequence::first_needed(size_t layer) const {
  return windows_[layer] ? std::max<int64_t>(0, length() - windows_[layer]) : 0;
}

bool CpuSequence::holds_last_query() const { return !window_ || first_needed(sliding_layer_) >= ring_oldest(); }

void CpuSequence::adopt(std::vector<int32_t> token_ids) {
  token_ids_ = std::move(token_ids);
  written_ = used_ = length();
  lost_ = window_ ? first_needed(sliding_layer_) : 0;
}

}  // namespace gemcut
