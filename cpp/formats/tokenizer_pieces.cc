// The two indexes over a vocabulary's pieces: a hash table and a byte trie.
#include "formats/tokenizer_pieces.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gemcut {
namespace {

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 divided by the golden ratio, odd

// Eight bytes at a time; pieces have 6 bytes on average.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = text.size() * kMultiplier;
  const char* bytes = text.data();
  size_t left = text.size();
  for (; left >= 8; left -= 8, bytes += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, 8);
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 29;
  }
  uint64_t word = 0;
  if (left) std::memcpy(&word, bytes, left);
  hash = (hash ^ word) * kMultiplier;
  hash ^= hash >> 32;
  hash *= kMultiplier;
  return hash ^ (hash >> 29);
}

}  // namespace

void PieceArena::reserve(size_t num_pieces, size_t num_bytes) {
  bytes_.reserve(num_bytes);
  ends_.reserve(num_pieces);
}

void PieceArena::append(std::string_view piece) {
  bytes_.insert(bytes_.end(), piece.begin(), piece.end());
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
}

size_t PieceTable::slot_of(std::string_view text, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  for (;; i = (i + 1) & mask) {
    const uint32_t slot = slots_[i];
    if (slot == free_slot) return i;
    if ((slot & ~id_mask_) == tag_of(hash) && pieces_[slot & id_mask_] == text) return i;
  }
}

PieceTable::Clash PieceTable::fill(const std::vector<int32_t>& token_ids) {
  slots_.assign(std::bit_ceil(std::max<size_t>(2 * token_ids.size(), 8)), free_slot);
  id_mask_ = static_cast<uint32_t>(std::bit_ceil(pieces_.size() + 1)) - 1;  // no id has all bits set
  std::vector<uint64_t> hashes;
  hashes.reserve(token_ids.size());
  for (const int32_t token_id : token_ids) hashes.push_back(hash_of(pieces_[static_cast<size_t>(token_id)]));
  // Slots lie all over a table larger than most caches; asking for them ahead halves the time.
  constexpr size_t kAhead = 16;
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < token_ids.size(); ++i) {
    if (i + kAhead < hashes.size()) __builtin_prefetch(&slots_[hashes[i + kAhead] & mask], 1);
    uint32_t& slot = slots_[slot_of(pieces_[static_cast<size_t>(token_ids[i])], hashes[i])];
    if (slot != free_slot) return {token_ids[i], token_id_in(slot)};
    slot = tag_of(hashes[i]) | static_cast<uint32_t>(token_ids[i]);
  }
  return {};
}

int32_t PieceTable::find(std::string_view text) const { return token_id_in(slots_[slot_of(text, hash_of(text))]); }

PieceTrie::PieceTrie() : roots_(256, -1) {}

int32_t PieceTrie::child_of(int32_t node, char label) const {
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].label != label)
    child = nodes_[static_cast<size_t>(child)].sibling;
  return child;
}

int32_t PieceTrie::new_node(char label) {
  nodes_.push_back({});
  nodes_.back().label = label;
  return static_cast<int32_t>(nodes_.size()) - 1;
}

void PieceTrie::add(std::string_view piece, int32_t token_id) {
  if (piece.empty()) return;
  const auto first = static_cast<unsigned char>(piece[0]);
  if (roots_[first] < 0) roots_[first] = new_node(piece[0]);
  int32_t node = roots_[first];
  for (const char label : piece.substr(1)) {
    int32_t child = child_of(node, label);
    if (child < 0) {
      child = new_node(label);
      Node& parent = nodes_[static_cast<size_t>(node)];
      nodes_[static_cast<size_t>(child)].sibling = parent.child;
      parent.child = child;
    }
    node = child;
  }
  nodes_[static_cast<size_t>(node)].token_id = token_id;
}

PieceTrie::Match PieceTrie::longest(std::string_view text) const {
  Match best;
  int32_t node = text.empty() ? -1 : roots_[static_cast<unsigned char>(text[0])];
  for (size_t size = 1; node >= 0; ++size) {
    const int32_t token_id = nodes_[static_cast<size_t>(node)].token_id;
    if (token_id >= 0) best = {token_id, size};
    node = size < text.size() ? child_of(node, text[size]) : -1;
  }
  return best;
}

}  // namespace gemcut
