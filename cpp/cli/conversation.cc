// The messages of a chat and its slash commands.
#include "cli/conversation.h"

#include "formats/message.h"

namespace gemcut::cli {
namespace {

constexpr const char* kHelp =
    "/clear        forget the conversation\n"
    "/undo         take back the last question and its answer\n"
    "/system TEXT  set the system instruction and start anew; without TEXT, remove it\n"
    "/help         this list\n"
    "/exit         leave (so do Ctrl-D, and Ctrl-C at the prompt)\n"
    "A line that begins with // is sent as it is, with one slash less. A line that\n"
    "ends in a backslash goes on in the next. Ctrl-C stops an answer.";

}  // namespace

std::vector<Message> Conversation::messages() const {
  std::vector<Message> all;
  if (system_) all.push_back({Role::system, *system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

void Conversation::answer(const std::string& text) {
  if (text.empty()) undo();
  else messages_.push_back({Role::assistant, text});
}

bool Conversation::undo() {
  const bool had_any = !messages_.empty();
  while (!messages_.empty()) {
    const bool is_question = messages_.back().role == Role::user;
    messages_.pop_back();
    if (is_question) break;
  }
  return had_any;
}

std::string Conversation::command(std::string_view line) {
  const size_t space = line.find(' ');
  const std::string_view name = line.substr(0, space);
  std::string_view argument = space == std::string_view::npos ? "" : line.substr(space + 1);
  while (argument.starts_with(' ')) argument.remove_prefix(1);
  if (name == "/help") return kHelp;
  if (name == "/undo") return undo() ? "Took back the last question." : "There is nothing to take back.";
  if (name == "/clear" || name == "/reset") {
    messages_.clear();
    return "The conversation is empty.";
  }
  if (name == "/system") {
    system_ = argument.empty() ? std::nullopt : std::optional<std::string>(argument);
    messages_.clear();
    return message("The system instruction is ", system_ ? "set" : "removed", "; the conversation is empty.");
  }
  throw Error(ErrorKind::usage,
              message("[cli.conversation] ", name,
                      ": no such command. /help lists them; begin a message with // to send a slash."));
}

}  // namespace gemcut::cli
