// A vocabulary made ready for use: every piece with its type, and what the files around it settle.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/tokenizer_pieces.h"

namespace gemcut {

struct Vocabulary {
  PieceArena pieces;             // V
  std::vector<float> scores;     // V, higher merges first
  std::vector<PieceType> types;  // V; markers are control pieces
  bool add_dummy_prefix = false;          // a space is put before a text
  bool remove_extra_whitespaces = false;  // leading, trailing and doubled spaces are dropped
  bool byte_fallback = false;             // unknown characters become bytes
  bool legacy = true;                     // the space goes before every stretch of text between control tokens
  bool add_bos = false;
  int32_t unknown_token_id = 0;
  int32_t bos_token_id = -1, eos_token_id = -1, pad_token_id = -1;  // -1: none

  PieceType type(int32_t token_id) const { return types[static_cast<size_t>(token_id)]; }
  std::string_view piece(int32_t token_id) const { return pieces[static_cast<size_t>(token_id)]; }
  // A control or unknown piece: decoding may leave it out, text never becomes it.
  bool is_special(int32_t token_id) const {
    return type(token_id) == PieceType::control || type(token_id) == PieceType::unknown;
  }
};

// Equals what gemcut.text.Tokenizer makes of the same files (model_from_gguf, read_model, with_added_tokens).
// Throws ErrorKind::tokenizer where the source is incomplete, contradictory, or rewrites text before splitting it.
Vocabulary make_vocabulary(const VocabularySource& source, const std::string& where);

// Whether a user-defined piece is a control token and not text. Python: gemcut.text.special_tokens.is_marker.
bool is_marker(std::string_view piece);

}  // namespace gemcut
