// Byte-pair encoding as SentencePiece does it: the best pair by score merges first, the leftmost of equals.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/tokenizer_pieces.h"
#include "formats/tokenizer_vocabulary.h"

namespace gemcut {

// Text without control tokens to ids. The vocabulary must outlive it. Safe to use from several threads.
// Source of the algorithm: sentencepiece 0.2, src/bpe_model.cc and src/normalizer.cc.
class BytePairEncoder {
 public:
  // Throws ErrorKind::tokenizer where a piece stands twice; `where` is the file's name.
  BytePairEncoder(const Vocabulary& vocabulary, const std::string& where);

  // Appends the ids of `text`; its bytes that are no UTF-8 count as U+FFFD each.
  void encode(std::string_view text, bool add_dummy_prefix, std::vector<int32_t>& token_ids) const;
  // The id of a piece in the vocabulary's own writing; -1: no such piece.
  int32_t find(std::string_view piece) const;

 private:
  friend class Segment;
  // `text` with spaces as U+2581 and nothing else changed.
  std::string normalize(std::string_view text, bool add_dummy_prefix) const;
  bool may_split_before(std::string_view text, size_t position) const;

  const Vocabulary& vocabulary_;
  PieceTable text_pieces_;               // what merges can make
  PieceTable reserved_;                  // control, unknown and byte pieces
  PieceTrie user_defined_;
  std::vector<uint32_t> ranks_;          // V, in the order of the scores
  std::array<int32_t, 256> byte_ids_{};  // with byte fallback
  size_t longest_piece_ = 0;             // bytes of the longest that a merge can make
  bool has_unused_ = false;
  // No piece has a space after something else, so words can be merged one by one.
  bool splits_at_spaces_ = true;
};

}  // namespace gemcut
