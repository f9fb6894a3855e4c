// What was said so far, and the commands that change it. Python: gemcut.cli.conversation.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_markers.h"

namespace gemcut::cli {

class Conversation {
 public:
  explicit Conversation(std::optional<std::string> system) : system_(std::move(system)) {}

  // The system's message first, if there is one.
  std::vector<Message> messages() const;
  bool is_empty() const { return messages_.empty(); }
  void ask(std::string text) { messages_.push_back({Role::user, std::move(text)}); }
  // An empty answer takes the question back: templates want turns in pairs.
  void answer(const std::string& text);
  bool undo();  // removes the last question and all after it; false where there is none
  // Carries out a line that begins with a slash, other than /exit; returns what to tell the user.
  // Throws ErrorKind::usage for an unknown command.
  std::string command(std::string_view line);

 private:
  std::optional<std::string> system_;
  std::vector<Message> messages_;
};

}  // namespace gemcut::cli
