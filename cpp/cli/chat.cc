// `gemcut-engine chat`: a conversation at the terminal.
#include <algorithm>
#include <filesystem>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/generation.h"
#include "cli/terminal.h"
#include "formats/json.h"
#include "formats/mapped_file.h"
#include "formats/message.h"

namespace gemcut::cli {
namespace {

constexpr int64_t kFirstCapacity = 2048;         // tokens; grows with the conversation
constexpr uint64_t kMaxConfigBytes = 1 << 20;

// What the checkpoint's own generation_config.json recommends; greedy without one.
SamplingOptions recommended(const std::string& path) {
  SamplingOptions sampling;
  const std::string file = (std::filesystem::path(path) / "generation_config.json").string();
  if (!std::filesystem::is_regular_file(file)) return sampling;
  const Json config = Json::parse(read_file(file, kMaxConfigBytes, ErrorKind::config), file, ErrorKind::config);
  const auto number = [&](const char* key, double otherwise) {
    const Json* value = config.find(key);
    return value && value->is_number() ? value->number() : otherwise;
  };
  sampling.repetition_penalty = static_cast<float>(number("repetition_penalty", 1));
  const Json* draws = config.find("do_sample");
  const bool says = draws && draws->is(Json::Kind::boolean);
  const bool is_drawn = says ? draws->boolean() : config.find("temperature") != nullptr;
  if (!is_drawn) return sampling;
  sampling.temperature = static_cast<float>(number("temperature", 1));
  sampling.top_k = static_cast<int64_t>(number("top_k", 0));
  sampling.top_p = static_cast<float>(number("top_p", 1));
  sampling.min_p = static_cast<float>(number("min_p", 0));
  return sampling;
}

std::string in_words(const SamplingOptions& sampling) {
  std::string text = sampling.temperature > 0 ? message("temperature ", sampling.temperature) : "greedy";
  if (sampling.temperature > 0 && sampling.top_k > 0) text += message(", top_k ", sampling.top_k);
  if (sampling.temperature > 0 && sampling.top_p < 1) text += message(", top_p ", sampling.top_p);
  if (sampling.temperature > 0 && sampling.min_p > 0) text += message(", min_p ", sampling.min_p);
  if (sampling.repetition_penalty != 1) text += message(", repetition_penalty ", sampling.repetition_penalty);
  return "sampling: " + text + ". /help lists commands.";
}

// A message of one or more lines; nothing at the end of input.
std::optional<std::string> read_message() {
  std::optional<std::string> line = read_line("> ");
  std::string text;
  while (line && line->ends_with('\\')) {
    text += line->substr(0, line->size() - 1) + "\n";
    line = read_line(". ");
  }
  return line ? std::optional(text + *line) : std::nullopt;
}

// Keeps the tokens that the next prompt shares with what was computed before.
class Talk {
 public:
  Talk(const Model& model, GenerationOptions options, bool as_json, bool quiet)
      : model_(model), options_(std::move(options)), as_json_(as_json), quiet_(quiet),
        markers_(model.checkpoint->config().model_type, *model.tokenizer) {}

  void answer(Conversation& conversation) {
    const std::vector<int32_t> token_ids = markers_.encode(conversation.messages());
    check_prompt(model_, static_cast<int64_t>(token_ids.size()));
    prepare(token_ids);
    const Answer answer = generate(model_, *sequence_, token_ids, options_, [&](const std::string& piece) {
      if (!as_json_) write_answer(piece);
    });
    write_answer(as_json_ ? answer.json() : "\n");
    conversation.answer(answer.text);
    print_notice(answer.speed(), quiet_);
    ++options_.seed;  // else every answer would be drawn with the same numbers
  }

 private:
  // Makes the sequence hold a beginning of `token_ids`, all but the last of them at most, with room for an answer.
  void prepare(const std::vector<int32_t>& token_ids) {
    const auto length = static_cast<int64_t>(token_ids.size());
    const int64_t needed = std::min(model_.context, length + options_.max_tokens);
    if (sequence_) {
      const std::vector<int32_t>& held = sequence_->token_ids();
      const auto differs = std::mismatch(held.begin(), held.end(), token_ids.begin(), token_ids.end() - 1).first;
      if (!model_.engine->truncate(*sequence_, differs - held.begin())) sequence_.reset();
    }
    const int64_t capacity = std::min(model_.context, std::max(kFirstCapacity, 2 * needed));
    if (!sequence_) sequence_ = model_.engine->new_sequence(capacity);
    else if (sequence_->capacity() < needed) sequence_ = model_.engine->fork(*sequence_, capacity);
  }

  const Model& model_;
  GenerationOptions options_;
  bool as_json_, quiet_;
  ChatMarkers markers_;
  std::unique_ptr<Sequence> sequence_;
};

// Ends the turn, not the conversation, where the message is at fault.
void turn(Talk& talk, Conversation& conversation, const std::string& line) {
  if (line.starts_with('/') && !line.starts_with("//")) {
    print_notice(conversation.command(line));
    return;
  }
  conversation.ask(line.substr(line.starts_with("//") ? 1 : 0));
  try {
    talk.answer(conversation);
  } catch (const Error&) {
    conversation.undo();
    throw;
  }
}

}  // namespace

int chat(const Arguments& arguments) {
  const bool quiet = arguments.has("--quiet");
  const GenerationOptions options = generation_options(arguments, 1024, recommended(arguments.words()[0]));
  const Model model = load_model(arguments);
  if (model.checkpoint->vocabulary().chat_template.empty())
    print_notice("This model carries no chat template: it may be a base model, which was not trained to talk.", quiet);
  print_notice(in_words(options.sampling), quiet);
  Talk talk(model, options, arguments.has("--json"), quiet);
  Conversation conversation(arguments.text("--system"));
  while (const std::optional<std::string> line = read_message()) {
    if (*line == "/exit" || *line == "/quit") return 0;
    if (line->find_first_not_of(" \t\r\n") == std::string::npos) continue;
    try {
      turn(talk, conversation, *line);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage && error.kind() != ErrorKind::context_length) throw;
      print_error(error.what());
    }
  }
  return 0;
}

}  // namespace gemcut::cli
