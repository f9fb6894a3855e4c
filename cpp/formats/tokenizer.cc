// The tokenizer: control tokens apart, the text between them through byte-pair encoding, and back.
#include "formats/tokenizer.h"

#include <algorithm>

#include "formats/message.h"
#include "formats/tokenizer_bpe.h"
#include "formats/tokenizer_utf8.h"
#include "formats/tokenizer_vocabulary.h"

namespace gemcut {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(Vocabulary vocabulary, const std::string& chat_template, const std::string& where)
      : vocabulary_(std::move(vocabulary)), encoder_(vocabulary_, where), chat_template_(chat_template) {
    for (int32_t id = 0; id < vocab_size(); ++id)
      if (vocabulary_.is_special(id)) special_.add(vocabulary_.piece(id), id);
  }

  std::vector<int32_t> encode(std::string_view text, bool parse_special, bool add_bos) const override {
    if (parse_special) return encode_parts(split_special(text), add_bos);
    std::vector<int32_t> token_ids;
    encoder_.encode(text, vocabulary_.add_dummy_prefix, token_ids);
    return with_bos(std::move(token_ids), add_bos);
  }

  std::vector<int32_t> encode_parts(const std::vector<TextPart>& parts, bool add_bos) const override {
    std::vector<int32_t> token_ids;
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool add_dummy_prefix = vocabulary_.add_dummy_prefix && (i == 0 || vocabulary_.legacy);
      if (parts[i].token_id >= 0) token_ids.push_back(parts[i].token_id);
      else encoder_.encode(parts[i].text, add_dummy_prefix, token_ids);
    }
    return with_bos(std::move(token_ids), add_bos);
  }

  std::vector<TextPart> split_special(std::string_view text) const override {
    std::vector<TextPart> parts;
    size_t done = 0;
    for (size_t position = 0; position < text.size();) {
      const auto match = special_.longest(text.substr(position));
      position += std::max<size_t>(match.num_bytes, 1);
      if (!match.num_bytes) continue;
      const size_t start = position - match.num_bytes;
      if (start > done) parts.push_back({std::string(text.substr(done, start - done)), -1});
      parts.push_back({"", match.token_id});
      done = position;
    }
    if (done < text.size()) parts.push_back({std::string(text.substr(done)), -1});
    return parts;
  }

  std::string decode(const std::vector<int32_t>& token_ids, bool skip_special, bool continues_prompt) const override {
    std::string bytes;
    bool at_start = !continues_prompt;
    for (const int32_t token_id : token_ids) {
      if (skip_special && is_special(token_id)) continue;
      const std::string shown = at_start ? bytes_at_start(token_id) : token_bytes(token_id);
      at_start = at_start && stays_at_start(shown);
      bytes += shown;
    }
    std::string text;
    append_utf8(text, bytes, false);
    return text;
  }

  std::string token_bytes(int32_t token_id) const override {
    const std::string_view text = piece(token_id);
    if (vocabulary_.type(token_id) == PieceType::byte) return {byte_of(text)};
    if (vocabulary_.is_special(token_id)) return std::string(text);
    std::string bytes;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find(kSpaceSymbol, begin), text.size());
      bytes += text.substr(begin, end - begin);
      if (end < text.size()) bytes += ' ';
      begin = end + kSpaceSymbol.size();
    }
    return bytes;
  }

  std::string bytes_at_start(int32_t token_id) const override {
    std::string bytes = token_bytes(token_id);
    const bool trims = vocabulary_.add_dummy_prefix || vocabulary_.remove_extra_whitespaces;
    const bool is_spaced = vocabulary_.type(token_id) != PieceType::byte && !vocabulary_.is_special(token_id);
    if (trims && is_spaced && bytes.starts_with(' ')) bytes.erase(0, 1);
    return bytes;
  }

  bool stays_at_start(std::string_view shown) const override {
    return shown.empty() && vocabulary_.remove_extra_whitespaces;
  }

  std::string_view piece(int32_t token_id) const override {
    if (token_id < 0 || token_id >= vocab_size())
      throw Error(ErrorKind::usage, message("[formats.tokenizer] token id ", token_id,
                                            " is outside the vocabulary, expected 0 to ", vocab_size() - 1, "."));
    return vocabulary_.piece(token_id);
  }

  int32_t id_of(std::string_view piece) const override { return encoder_.find(piece); }
  bool is_special(int32_t token_id) const override {
    return token_id >= 0 && token_id < vocab_size() && vocabulary_.is_special(token_id);
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(vocabulary_.pieces.size()); }
  int32_t max_text_token_id() const override {
    int32_t id = vocab_size() - 1;
    while (id > 0 && (vocabulary_.is_special(id) || vocabulary_.type(id) == PieceType::unused)) --id;
    return id;
  }
  int32_t bos_token_id() const override { return vocabulary_.bos_token_id; }
  int32_t eos_token_id() const override { return vocabulary_.eos_token_id; }
  int32_t pad_token_id() const override { return vocabulary_.pad_token_id; }
  int32_t unknown_token_id() const override { return vocabulary_.unknown_token_id; }
  bool add_bos() const override { return vocabulary_.add_bos; }
  const std::string& chat_template() const override { return chat_template_; }

 private:
  static char byte_of(std::string_view piece) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'A' + 10; };
    return static_cast<char>(16 * digit(piece[3]) + digit(piece[4]));
  }

  // The beginning-of-text token first if this tokenizer puts it there or the text has it, and once.
  std::vector<int32_t> with_bos(std::vector<int32_t> token_ids, bool add_bos) const {
    const int32_t bos = vocabulary_.bos_token_id;
    if (!add_bos || bos < 0) return token_ids;
    const auto text = std::find_if(token_ids.begin(), token_ids.end(), [&](int32_t id) { return id != bos; });
    const bool has_bos = text != token_ids.begin();
    token_ids.erase(token_ids.begin(), text);
    if (has_bos || vocabulary_.add_bos) token_ids.insert(token_ids.begin(), bos);
    return token_ids;
  }

  const Vocabulary vocabulary_;
  const BytePairEncoder encoder_;
  PieceTrie special_;
  const std::string chat_template_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::make(const VocabularySource& source, const std::string& where) {
  return std::make_unique<SentencePieceTokenizer>(make_vocabulary(source, where), source.chat_template, where);
}

}  // namespace gemcut
