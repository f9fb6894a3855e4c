// `gemcut-engine run`: complete one prompt.
#include <algorithm>

#include "cli/commands.h"
#include "cli/generation.h"
#include "cli/terminal.h"
#include "engine/chat_markers.h"

namespace gemcut::cli {
namespace {

std::vector<int32_t> prompt_ids(const Model& model, const Arguments& arguments, const std::string& text) {
  if (!arguments.has("--chat")) return model.tokenizer->encode(text);
  std::vector<Message> messages;
  if (const auto system = arguments.text("--system")) messages.push_back({Role::system, *system});
  messages.push_back({Role::user, text});
  return ChatMarkers(model.checkpoint->config().model_type, *model.tokenizer).encode(messages);
}

}  // namespace

int run(const Arguments& arguments) {
  if (arguments.has("--system") && !arguments.has("--chat"))
    throw Error(ErrorKind::usage,
                "[cli.run] --system is given without --chat. Add --chat, or put the text into the prompt.");
  const bool as_json = arguments.has("--json"), quiet = arguments.has("--quiet");
  const GenerationOptions options = generation_options(arguments, 64, {});
  const std::string text = read_prompt(arguments.word(1), arguments.text("--file"), quiet);
  const Model model = load_model(arguments);
  const std::vector<int32_t> token_ids = prompt_ids(model, arguments, text);
  const auto length = static_cast<int64_t>(token_ids.size());
  check_prompt(model, length);
  const auto sequence = model.engine->new_sequence(std::min(model.context, length + options.max_tokens));
  const Answer answer = generate(model, *sequence, token_ids, options, [&](const std::string& piece) {
    if (!as_json) write_answer(piece);
  });
  write_answer(as_json ? answer.json() : "\n");
  print_notice(answer.speed(), quiet);
  return answer.finish_reason == "interrupted" ? 130 : 0;
}

}  // namespace gemcut::cli
