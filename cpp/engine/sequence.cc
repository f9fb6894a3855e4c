#include "engine/sequence.h"

#include <algorithm>
#include <cstring>

#include "engine/weights.h"

namespace gemcut {
namespace {

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

CacheGeometry::CacheGeometry(const Config& config, CacheType type, int64_t max_tokens)
    : capacity(max_tokens),
      head_dim(config.head_dim),
      num_key_value_heads(config.num_key_value_heads),
      element_bytes(type == CacheType::f32 ? 4 : 2) {
  const int64_t all = round_up(std::max<int64_t>(max_tokens, 1), attention_block);
  for (const LayerType kind : config.layer_types) {
    const int64_t ring = round_up(config.sliding_window.value_or(0) + max_pass_rows, attention_block);
    slots.push_back(kind == LayerType::sliding_attention ? std::min(all, ring) : all);
    layer_offset.push_back(bytes);
    bytes += 2 * num_key_value_heads * slots.back() * head_dim * element_bytes;
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
  return allocate_region(bytes);
}

void CacheMemory::give_back(std::shared_ptr<std::byte> memory, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (kept_bytes_ + bytes > max_kept_bytes) return;
  kept_.emplace(bytes, std::move(memory));
  kept_bytes_ += bytes;
}

CpuSequence::CpuSequence(const Config& config, CacheType type, int64_t max_tokens, std::shared_ptr<CacheMemory> source)
    : geometry_(config, type, max_tokens), source_(std::move(source)), memory_(source_->take(geometry_.bytes)) {
  for (const LayerType kind : config.layer_types)
    windows_.push_back(kind == LayerType::sliding_attention ? config.sliding_window.value_or(0) : 0);
}

// A value that is not finite would spoil what comes after it even at weight zero, so the memory goes back clean.
CpuSequence::~CpuSequence() {
  const int64_t width = geometry_.head_dim * geometry_.element_bytes;
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    const int64_t used = std::min(round_up(written_, 16), geometry_.slots[layer]) * width;
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head)
      std::memset(memory_.get() + geometry_.layer_offset[layer] + head * geometry_.head_bytes(layer), 0,
                  static_cast<size_t>(used));
  }
  source_->give_back(std::move(memory_), geometry_.bytes);
}

void CpuSequence::append(std::span<const int32_t> token_ids) {
  token_ids_.insert(token_ids_.end(), token_ids.begin(), token_ids.end());
  written_ = std::max(written_, length());
}

bool CpuSequence::can_truncate(int64_t length) const {
  if (length < 0 || length > this->length()) return false;
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    if (!windows_[layer] || geometry_.slots[layer] >= written_) continue;
    const int64_t oldest_needed = std::max<int64_t>(0, length - windows_[layer] + 1);
    if (length > 0 && oldest_needed < written_ - geometry_.slots[layer]) return false;
  }
  return true;
}

void CpuSequence::copy_from(const CpuSequence& other) {
  const int64_t width = geometry_.head_dim * geometry_.element_bytes;
  for (size_t layer = 0; layer < windows_.size(); ++layer) {
    const int64_t theirs = other.geometry_.slots[layer], ours = geometry_.slots[layer];
    // Blocks of 16 slots are the unit of the layout; those of positions that both rings hold.
    const int64_t end = round_up(other.written_, 16);
    const int64_t begin = std::max<int64_t>(0, other.written_ - std::min(theirs, ours)) / 16 * 16;
    for (int64_t head = 0; head < 2 * geometry_.num_key_value_heads; ++head) {
      const std::byte* from = other.memory_.get() + other.geometry_.layer_offset[layer] + head * other.geometry_.head_bytes(layer);
      std::byte* to = memory_.get() + geometry_.layer_offset[layer] + head * geometry_.head_bytes(layer);
      for (int64_t position = begin; position < end; position += 16)
        std::memcpy(to + position % ours * width, from + position % theirs * width, static_cast<size_t>(16 * width));
    }
  }
  token_ids_ = other.token_ids_;
  written_ = other.written_;
}

}  // namespace gemcut
