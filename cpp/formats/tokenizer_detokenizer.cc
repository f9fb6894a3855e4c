// Token ids to text as they come, in whole characters.
#include "formats/tokenizer.h"
#include "formats/tokenizer_utf8.h"

namespace gemcut {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool continues_prompt, bool skip_special)
    : tokenizer_(tokenizer), at_start_(!continues_prompt), skip_special_(skip_special) {}

std::string Detokenizer::push(int32_t token_id) {
  if (skip_special_ && tokenizer_.is_special(token_id)) return "";
  const std::string shown = at_start_ ? tokenizer_.bytes_at_start(token_id) : tokenizer_.token_bytes(token_id);
  at_start_ = at_start_ && tokenizer_.stays_at_start(shown);
  held_ += shown;
  std::string text;
  held_.erase(0, append_utf8(text, held_, true));
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  append_utf8(text, held_, false);
  held_.clear();
  return text;
}

}  // namespace gemcut
