// The table of commands, and what becomes of their errors.
#include "cli/commands.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "cli/generation.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "engine/machine.h"
#include "formats/message.h"

namespace gemcut::cli {
namespace {

constexpr std::string_view kSamplingFlags[] = {"--max-tokens", "--temperature",        "--top-k", "--top-p",
                                               "--min-p",      "--repetition-penalty", "--seed",  "--stop"};

std::vector<std::string_view> with_sampling(std::vector<std::string_view> before,
                                            const std::vector<std::string_view>& after) {
  before.insert(before.end(), std::begin(kSamplingFlags), std::end(kSamplingFlags));
  before.insert(before.end(), after.begin(), after.end());
  return before;
}

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
    case ErrorKind::context_length: return 2;
    case ErrorKind::config:
    case ErrorKind::checkpoint:
    case ErrorKind::tokenizer: return 3;
    case ErrorKind::not_found: return 4;
    case ErrorKind::cancelled: return 130;
    case ErrorKind::out_of_memory:
    case ErrorKind::failed: return 1;
  }
  return 1;
}

int dispatch(const std::vector<std::string>& given) {
  const auto is_help = [](const std::string& word) { return word == "--help" || word == "-h"; };
  if (given.empty() || is_help(given[0]) || given[0] == "help") {
    write_answer(help_of(kCommands));
    return given.empty() ? 2 : 0;
  }
  const std::string name = given[0] == "--version" ? "version" : given[0];
  const auto command =
      std::find_if(kCommands.begin(), kCommands.end(), [&](const Command& one) { return one.name == name; });
  if (command == kCommands.end())
    throw Error(ErrorKind::usage, message("[cli.commands] ", quoted(name), " is no command. ",
                                          "gemcut-engine --help lists them."));
  const std::vector<std::string> rest(given.begin() + 1, given.end());
  const auto end = std::find(rest.begin(), rest.end(), "--");
  if (std::any_of(rest.begin(), end, is_help)) {
    write_answer(help_of(*command));
    return 0;
  }
  return command->run(parse_arguments(*command, rest));
}

}  // namespace

const std::vector<Command> kCommands = {
    {"run", "MODEL [PROMPT]", "Complete a prompt: PROMPT, a file, or standard input.", 1, 2,
     with_sampling({"--file", "--chat", "--system"}, {"--threads", "--context", "--json", "--quiet"}),
     "  gemcut-engine run model.gguf \"The capital of France is\" --max-tokens 20\n"
     "  gemcut-engine run model.gguf --file story.txt --temperature 0.8 --top-p 0.9 --seed 7\n"
     "  echo \"Once upon a time\" | gemcut-engine run model.gguf --json\n"
     "  gemcut-engine run ./gemma-3-1b-it --chat \"Why is the sky blue?\"\n",
     run},
    {"chat", "MODEL", "Talk with an instruction-tuned model, with history.", 1, 1,
     with_sampling({"--system"}, {"--threads", "--context", "--json", "--quiet"}),
     "  gemcut-engine chat ./gemma-3-1b-it\n"
     "  gemcut-engine chat gemma-3-1b-it.gguf --system \"Answer in one sentence.\" --temperature 0.7\n"
     "\nInside: /help lists the commands; Ctrl-C stops an answer, and leaves at the prompt.\n",
     chat},
    {"bench", "MODEL", "Measure how fast a model is here, and what it takes.", 1, 1,
     {"--prompt-tokens", "--decode-tokens", "--depth", "--batch", "--threads", "--json", "--quiet"},
     "  gemcut-engine bench model.gguf\n"
     "  gemcut-engine bench model.gguf --prompt-tokens 128 --depth 2048 --threads 2 --json\n"
     "  gemcut-engine bench model.gguf --batch 8\n",
     bench},
    {"perplexity", "MODEL FILE", "Measure how well a model predicts a text, window by window.", 2, 2,
     {"--context", "--stride", "--jsonl", "--threads", "--json", "--quiet"},
     "  gemcut-engine perplexity model.gguf book.txt\n"
     "  gemcut-engine perplexity model.gguf book.txt --context 512 --stride 256 --json\n"
     "  gemcut-engine perplexity model.gguf passages.jsonl --jsonl\n",
     perplexity},
    {"inspect", "MODEL", "Show what a model is: configuration, tensors, tokenizer. Reads no weight.", 1, 1, {"--json"},
     "  gemcut-engine inspect model.gguf\n"
     "  gemcut-engine inspect ./gemma-3-1b-it --json\n",
     inspect},
    {"tokens", "MODEL", "Turn each line of standard input into token ids; with --json each line is a JSON text.", 1, 1,
     {"--parse-special", "--json"},
     "  gemcut-engine tokens model.gguf < lines.txt\n"
     "  gemcut-engine tokens model.gguf --json --parse-special < texts.jsonl\n",
     tokens, true},
    {"version", "", "Print the version, the processor and the instruction set in use.", 0, 0, {"--json"},
     "  gemcut-engine version\n"
     "  gemcut-engine version --json\n",
     version},
};

int run_command_line(const std::vector<std::string>& given) {
  int code = 1;
  std::string problem;
  try {
    return dispatch(given);
  } catch (const DataError& error) {
    problem = error.what();
    code = 3;
  } catch (const Error& error) {
    problem = error.what();
    code = exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    problem = "out of memory. Use a smaller --context or model, or close other programs.";
  } catch (const std::exception& error) {
    problem = message(error.what(), ". This is a fault of Gemcut.");
  }
  print_error(problem);
  return code;
}

}  // namespace gemcut::cli
