#include "engine/prefix_cache.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace gemcut {

int64_t common_prefix(std::span<const int32_t> one, std::span<const int32_t> other) {
  const size_t shorter = std::min(one.size(), other.size());
  return std::mismatch(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(shorter), other.begin()).first - one.begin();
}

PrefixCache::Match PrefixCache::best_match(std::span<const int32_t> token_ids) const {
  Match best{kept_.end(), min_reused_tokens - 1};
  if (token_ids.empty()) return {kept_.end(), 0};
  const auto wanted = token_ids.first(token_ids.size() - 1);  // the last token's logits are needed
  for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
    const int64_t shared = common_prefix((*kept)->token_ids(), wanted);
    if (shared <= best.length) continue;
    const int64_t length = engine_.restorable(**kept, shared);
    if (length > best.length) best = {kept, length};
  }
  return best.kept == kept_.end() ? Match{kept_.end(), 0} : best;
}

int64_t PrefixCache::find(std::span<const int32_t> token_ids) const { return best_match(token_ids).length; }

std::unique_ptr<Sequence> PrefixCache::take(std::span<const int32_t> token_ids, int64_t max_tokens) {
  const Match match = best_match(token_ids);
  if (match.kept == kept_.end() || match.length > max_tokens) return nullptr;
  const auto kept = kept_.erase(match.kept, match.kept);  // the same place, to be changed
  const int64_t capacity = (*kept)->capacity();
  if (match.length == (*kept)->length() && capacity >= max_tokens &&
      engine_.sequence_bytes(capacity) == engine_.sequence_bytes(max_tokens)) {
    std::unique_ptr<Sequence> sequence = std::move(*kept);
    kept_.erase(kept);
    return sequence;
  }
  kept_.splice(kept_.begin(), kept_, kept);
  return engine_.fork(**kept, max_tokens, match.length);
}

// Drops what the sequence makes superfluous; whether it is itself: its text begins another one that can go back to it.
bool PrefixCache::absorb(const Sequence& sequence) {
  const int64_t length = sequence.length();
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const int64_t shared = common_prefix((*kept)->token_ids(), sequence.token_ids());
    if (shared == length && engine_.restorable(**kept, shared) == shared) {
      kept_.splice(kept_.begin(), kept_, kept);
      return true;
    }
    const bool is_part = shared == (*kept)->length() && engine_.restorable(sequence, shared) == shared;
    kept = is_part ? kept_.erase(kept) : std::next(kept);
  }
  return false;
}

// A copy of its own length lets the room that was never used serve the next text at once.
void PrefixCache::keep(std::unique_ptr<Sequence> sequence) {
  if (max_bytes_ == 0 || !sequence || sequence->length() < min_reused_tokens || absorb(*sequence)) return;
  try {
    if (2 * engine_.sequence_bytes(sequence->length()) < engine_.sequence_bytes(sequence->capacity()))
      sequence = engine_.fork(*sequence, sequence->length());
    kept_.push_front(std::move(sequence));
  } catch (const std::exception&) {
    clear();  // no memory for a copy: what is kept for later is the first to go
  }
  make_room();
}

void PrefixCache::make_room() {
  while (!kept_.empty() && num_bytes() > max_bytes_) kept_.pop_back();
}

void PrefixCache::set_max_bytes(int64_t max_bytes) {
  max_bytes_ = max_bytes;
  make_room();
}

int64_t PrefixCache::num_bytes() const {
  int64_t bytes = 0;
  for (const auto& sequence : kept_) bytes += sequence->num_bytes();
  return bytes;
}

}  // namespace gemcut
