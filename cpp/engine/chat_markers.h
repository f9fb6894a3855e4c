// A conversation as the prompt that its family was trained on, without Jinja.
// Equals gemcut.text.builtin_templates; a chat template that a checkpoint carries is not read here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/config.h"
#include "formats/tokenizer.h"

namespace gemcut {

enum class Role : uint8_t { system, user, assistant };

struct Message {
  Role role = Role::user;
  std::string content;
};

struct ChatFormat;

// The markers of one model. The tokenizer must outlive it.
class ChatMarkers {
 public:
  // `model_type` as in Config. Throws ErrorKind::config for a family whose format is not known.
  ChatMarkers(const std::string& model_type, const Tokenizer& tokenizer);

  // Token ids up to the model's turn. Text of a message never becomes a control token.
  // The first message may be the system's; then user and assistant alternate, the user's last.
  // Throws ErrorKind::usage where they do not, or where the family has no system role.
  std::vector<int32_t> encode(const std::vector<Message>& messages) const;
  bool has_system_role() const;

 private:
  const ChatFormat& format_;
  const Tokenizer& tokenizer_;
};

// Ids that end an answer, ascending: those the configuration and the tokenizer name, and the family's end pieces.
// Python: gemcut.text.special_tokens.stop_token_ids.
std::vector<int32_t> stop_token_ids(const Config& config, const Tokenizer& tokenizer);

}  // namespace gemcut
