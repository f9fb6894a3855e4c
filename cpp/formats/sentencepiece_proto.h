// A SentencePiece model out of its protobuf wire format. Python: gemcut.text.sentencepiece_proto.
// Source: sentencepiece 0.2, src/sentencepiece_model.proto (field numbers and defaults).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gemcut {

// The fields of a ModelProto that Gemcut needs; the views point into the bytes that were read.
struct SentencePieceModel {
  std::vector<std::string_view> pieces;
  std::vector<float> scores;
  std::vector<uint8_t> types;  // 1 to 6, as PieceType
  // TrainerSpec
  int64_t model_type = 1;      // 2 is byte-pair encoding
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  int64_t unknown_token_id = 0, bos_token_id = 1, eos_token_id = 2, pad_token_id = -1;
  // NormalizerSpec
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool has_character_map = false;  // text is rewritten before it is split
};

// Throws ErrorKind::tokenizer where the bytes are cut short or are no SentencePiece model; `where` is the file's name.
SentencePieceModel read_sentencepiece_model(std::string_view data, const std::string& where);

}  // namespace gemcut
