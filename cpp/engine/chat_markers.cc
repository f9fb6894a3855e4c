// Puts the table's texts around the messages of a conversation.
#include "engine/chat_markers.h"

#include <algorithm>

#include "engine/chat_tables.h"
#include "formats/message.h"
#include "formats/tokenizer_utf8.h"

namespace gemcut {
namespace {

bool is_control(const Tokenizer& tokenizer, std::string_view piece) {
  return tokenizer.is_special(tokenizer.id_of(piece));
}

const ChatFormat& format_of(const std::string& model_type, const Tokenizer& tokenizer) {
  for (const ChatFormat& format : kChatFormats)
    if (format.model_type == model_type &&
        (format.needed_piece.empty() || is_control(tokenizer, format.needed_piece)))
      return format;
  throw Error(ErrorKind::config, message("[engine.chat_markers] model type ", quoted(model_type),
                                         ": its chat format is not known. Write the prompt yourself, without --chat."));
}

std::string_view trimmed(std::string_view text, ChatFormat::Trim trim) {
  while (trim.left && !text.empty()) {
    const size_t size = std::max<size_t>(utf8_character_bytes(text), 1);
    if (!is_whitespace(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (trim.right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!is_whitespace(text.substr(begin))) break;
    text = text.substr(0, begin);
  }
  return text;
}

// The prompt so far: markers become control tokens, contents stay text.
class Prompt {
 public:
  explicit Prompt(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // A text of the table.
  void add_markers(std::string_view text) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t reserved = std::min(text.find('{', begin), text.size());
      for (const TextPart& part : tokenizer_.split_special(text.substr(begin, reserved - begin))) add(part);
      if (reserved == text.size()) return;
      const size_t end = text.find('}', reserved) + 1;
      const bool is_bos = text.substr(reserved, end - reserved) == "{bos}";
      const int32_t token_id = is_bos ? tokenizer_.bos_token_id() : tokenizer_.eos_token_id();
      if (token_id >= 0) add({"", token_id});
      begin = end;
    }
  }
  void add_content(std::string_view text) { add({std::string(text), -1}); }
  const std::vector<TextPart>& parts() const { return parts_; }

 private:
  // Text after text is one text: tokens may reach over the border.
  void add(const TextPart& part) {
    if (part.token_id < 0 && part.text.empty()) return;
    if (part.token_id < 0 && !parts_.empty() && parts_.back().token_id < 0) parts_.back().text += part.text;
    else parts_.push_back(part);
  }

  const Tokenizer& tokenizer_;
  std::vector<TextPart> parts_;
};

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::usage, "[engine.chat_markers] messages: " + what);
}

const char* name_of(Role role) {
  return role == Role::system ? "system" : role == Role::user ? "user" : "assistant";
}

// `first`: index of the first message that is not the system's.
void check_turns(const std::vector<Message>& messages, size_t first) {
  if (messages.size() == first) refuse("there is no question, expected one message of the user or more. Add one.");
  for (size_t i = first; i < messages.size(); ++i) {
    const Role expected = (i - first) % 2 ? Role::assistant : Role::user;
    if (messages[i].role != expected)
      refuse(message("message ", i + 1, " is the ", name_of(messages[i].role), "'s, expected the ", name_of(expected),
                     "'s. User and assistant take turns."));
  }
  if (messages.back().role != Role::user)
    refuse("the last one is the assistant's, expected the user's. Add a question.");
}

}  // namespace

ChatMarkers::ChatMarkers(const std::string& model_type, const Tokenizer& tokenizer)
    : format_(format_of(model_type, tokenizer)), tokenizer_(tokenizer) {}

bool ChatMarkers::has_system_role() const { return !format_.system_before.empty(); }

std::vector<int32_t> ChatMarkers::encode(const std::vector<Message>& messages) const {
  const bool has_system = !messages.empty() && messages[0].role == Role::system;
  if (has_system && !has_system_role())
    refuse(message("the first one is the system's, but ", format_.model_type,
                   " models have no system role. Put the instruction into the first question."));
  check_turns(messages, has_system);
  Prompt prompt(tokenizer_);
  if (has_system) {
    prompt.add_markers(format_.system_before);
    prompt.add_content(trimmed(messages[0].content, format_.system));
    // Where only its right side is trimmed, the question and the text before it are trimmed as one (Llama 2).
    const ChatFormat::Trim trim = format_.user_after_system;
    const bool reaches_back = !trim.left && trim.right && trimmed(messages[1].content, trim).empty();
    prompt.add_markers(reaches_back ? trimmed(format_.system_user, trim) : format_.system_user);
  } else {
    prompt.add_markers(format_.first_before);
  }
  for (size_t i = has_system; i < messages.size(); ++i) {
    const bool is_user = messages[i].role == Role::user;
    const bool follows_system = has_system && i == 1;
    prompt.add_content(trimmed(messages[i].content, follows_system ? format_.user_after_system
                                                    : is_user      ? format_.user
                                                                   : format_.assistant));
    if (i + 1 < messages.size()) prompt.add_markers(is_user ? format_.user_assistant : format_.assistant_user);
  }
  prompt.add_markers(format_.last_after);
  return tokenizer_.encode_parts(prompt.parts());
}

std::vector<int32_t> stop_token_ids(const Config& config, const Tokenizer& tokenizer) {
  std::vector<int32_t> token_ids;
  for (const std::string_view piece : kEndPieces)
    if (is_control(tokenizer, piece)) token_ids.push_back(tokenizer.id_of(piece));
  if (tokenizer.eos_token_id() >= 0) token_ids.push_back(tokenizer.eos_token_id());
  for (const int64_t token_id : config.eos_token_ids)
    if (token_id >= 0 && token_id < config.vocab_size) token_ids.push_back(static_cast<int32_t>(token_id));
  std::sort(token_ids.begin(), token_ids.end());
  token_ids.erase(std::unique(token_ids.begin(), token_ids.end()), token_ids.end());
  return token_ids;
}

}  // namespace gemcut
