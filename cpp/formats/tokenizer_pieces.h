// A vocabulary's pieces in flat memory: by id, by text, and by what a text begins with.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gemcut {

// SentencePiece.Type
enum class PieceType : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// The texts of V pieces, one after the other.
class PieceArena {
 public:
  void reserve(size_t num_pieces, size_t num_bytes);
  void append(std::string_view piece);
  size_t size() const { return ends_.size(); }
  size_t num_bytes() const { return bytes_.size(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i ? ends_[i - 1] : 0;
    return {bytes_.data() + begin, ends_[i] - begin};
  }

 private:
  std::vector<char> bytes_;
  std::vector<uint32_t> ends_;
};

// Piece to id, by open addressing. The arena must outlive it.
class PieceTable {
 public:
  explicit PieceTable(const PieceArena& pieces) : pieces_(pieces), slots_(8, free_slot) {}
  // Fills the table, once, with pieces by their ids; stops at one whose text is there already.
  struct Clash {
    int32_t token_id = -1, same = -1;  // -1: none
  };
  Clash fill(const std::vector<int32_t>& token_ids);
  int32_t find(std::string_view text) const;  // -1: no such piece

 private:
  // A slot is a token id and, in the bits above it, a part of the hash, so that other texts are rarely read.
  static constexpr uint32_t free_slot = ~uint32_t{0};

  uint32_t tag_of(uint64_t hash) const { return static_cast<uint32_t>(hash >> 32) & ~id_mask_; }
  int32_t token_id_in(uint32_t slot) const {
    return slot == free_slot ? -1 : static_cast<int32_t>(slot & id_mask_);
  }
  // The slot that holds `text`, or the free one where it belongs.
  size_t slot_of(std::string_view text, uint64_t hash) const;

  const PieceArena& pieces_;
  uint32_t id_mask_ = 0;
  std::vector<uint32_t> slots_;  // a power of two, at most half in use
};

// Finds the longest piece that a text begins with.
class PieceTrie {
 public:
  PieceTrie();
  void add(std::string_view piece, int32_t token_id);
  struct Match {
    int32_t token_id = -1;  // -1: none
    size_t num_bytes = 0;
  };
  Match longest(std::string_view text) const;

 private:
  struct Node {
    int32_t child = -1;
    int32_t sibling = -1;
    int32_t token_id = -1;
    char label = 0;
  };
  int32_t child_of(int32_t node, char label) const;
  int32_t new_node(char label);

  std::vector<int32_t> roots_;  // by first byte
  std::vector<Node> nodes_;
};

}  // namespace gemcut
