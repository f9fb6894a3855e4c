// SentencePiece byte-pair encoding, with SentencePiece's answers. Equals gemcut.text.Tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"

namespace gemcut {

// A stretch of text that is never parsed for control tokens, or one token.
struct TextPart {
  std::string text;
  int32_t token_id = -1;  // -1: it is text
};

// Does not change after make(); may be shared between threads. Needs nothing of its source afterwards.
class Tokenizer {
 public:
  // Throws ErrorKind::tokenizer. `where` is the file's name for messages.
  static std::unique_ptr<Tokenizer> make(const VocabularySource& source, const std::string& where);
  virtual ~Tokenizer() = default;

  // Ids of a text. parse_special: control-token text becomes the control token, longest match first.
  // add_bos: the beginning-of-text token comes first if this tokenizer has one, and never twice.
  virtual std::vector<int32_t> encode(std::string_view text, bool parse_special = false, bool add_bos = true) const = 0;
  // Ids of texts and tokens in a row.
  virtual std::vector<int32_t> encode_parts(const std::vector<TextPart>& parts, bool add_bos = true) const = 0;
  // A text cut at its control tokens, the longest at each place; no part is an empty text.
  virtual std::vector<TextPart> split_special(std::string_view text) const = 0;
  // Text of ids; bytes that are part of no character become U+FFFD, one each.
  virtual std::string decode(const std::vector<int32_t>& token_ids, bool skip_special = true,
                             bool continues_prompt = false) const = 0;
  // Spaces as spaces, a byte piece as its byte, a control token as its piece.
  // Throws ErrorKind::usage for an id outside the vocabulary; so do bytes_at_start(), piece() and decode().
  virtual std::string token_bytes(int32_t token_id) const = 0;
  // token_bytes() of a token that starts a text: without the space that encode() put before the text.
  virtual std::string bytes_at_start(int32_t token_id) const = 0;
  // Whether a text is still at its start after `shown`.
  virtual bool stays_at_start(std::string_view shown) const = 0;
  virtual std::string_view piece(int32_t token_id) const = 0;   // the vocabulary's own writing
  virtual int32_t id_of(std::string_view piece) const = 0;      // -1: no such piece
  virtual bool is_special(int32_t token_id) const = 0;
  virtual int32_t vocab_size() const = 0;
  virtual int32_t max_text_token_id() const = 0;                // the highest id that plain text can become
  virtual int32_t bos_token_id() const = 0;                     // -1: none; likewise below
  virtual int32_t eos_token_id() const = 0;
  virtual int32_t pad_token_id() const = 0;
  virtual int32_t unknown_token_id() const = 0;
  virtual bool add_bos() const = 0;
  virtual const std::string& chat_template() const = 0;
};

// Whole characters out of a stream of tokens: bytes wait until their character is complete or cannot be any more.
// Equals gemcut.text.IncrementalDetokenizer: what push() and finish() give adds up to Tokenizer::decode().
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool continues_prompt = true, bool skip_special = true);
  // The text that is certain now; often empty within a character. Throws as Tokenizer::token_bytes.
  std::string push(int32_t token_id);
  // What was held back, U+FFFD for each byte.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool at_start_;
  bool skip_special_;
  std::string held_;
};

}  // namespace gemcut
