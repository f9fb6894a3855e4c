// One table of flags, one parser for all commands, and help made from both.
#include "cli/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "formats/message.h"

namespace gemcut::cli {

namespace {

constexpr double kMost = 9007199254740992.0;  // 2^53
constexpr double kReal = std::numeric_limits<double>::max();
constexpr double kAboveZero = std::numeric_limits<double>::denorm_min();
constexpr double kBelowOne = 0x1.fffffffffffffp-1;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::usage, "[cli.flags] " + what); }

}  // namespace

const std::vector<Flag> kFlags = {
    {"--chat", FlagKind::on, "", "Put the prompt into the model's chat format."},
    {"--system", FlagKind::text, "TEXT", "System instruction of the chat."},
    {"--file", FlagKind::text, "PATH", "Read the prompt from this UTF-8 file."},
    {"--max-tokens", FlagKind::whole, "N", "Tokens to generate at most.", 1, kMost, "at least 1"},
    {"--temperature", FlagKind::real, "X", "Divide the logits by this; 0 is greedy and exact.", 0, kReal, "at least 0"},
    {"--top-k", FlagKind::whole, "K", "Keep the K most probable tokens; 0 keeps all.", 0, kMost, "at least 0"},
    {"--top-p", FlagKind::real, "P", "Keep the most probable tokens up to this total probability.", kAboveZero, 1,
     "above 0 and at most 1"},
    {"--min-p", FlagKind::real, "P", "Drop tokens below this share of the best one's probability.", 0, kBelowOne,
     "from 0 to below 1"},
    {"--repetition-penalty", FlagKind::real, "X", "Make tokens seen before less likely; 1 is off.", kAboveZero, kReal,
     "above 0"},
    {"--seed", FlagKind::whole, "N", "The same seed gives the same text.", -kMost, kMost, "a whole number"},
    {"--stop", FlagKind::texts, "TEXT", "End the answer before this text; may be given again."},
    {"--threads", FlagKind::whole, "N", "CPU threads [default: all cores].", 1, 4096, "1 to 4096"},
    {"--context", FlagKind::whole, "N", "Tokens of prompt and answer together.", 1, kMost, "at least 1"},
    {"--prompt-tokens", FlagKind::whole, "N", "Tokens of the prompt that is timed [default: 512].", 1, kMost,
     "at least 1"},
    {"--decode-tokens", FlagKind::whole, "N", "Tokens generated and timed [default: 64].", 1, kMost, "at least 1"},
    {"--depth", FlagKind::whole, "N", "Tokens already in the cache before the prompt [default: 0].", 0, kMost,
     "at least 0"},
    {"--batch", FlagKind::whole, "N", "Sequences at once [default: 1].", 1, 4096, "1 to 4096"},
    {"--stride", FlagKind::whole, "N", "Tokens from one window to the next [default: half the window].", 1, kMost,
     "at least 1"},
    {"--jsonl", FlagKind::on, "", "The file holds passages: one JSON text a line, each measured by itself."},
    {"--parse-special", FlagKind::on, "", "Control-token text becomes the control token."},
    {"--json", FlagKind::on, "", "Print JSON on standard output."},
    {"--quiet", FlagKind::on, "", "Print nothing but the answer and errors."},
};

namespace {

const Flag& flag_called(const Command& command, std::string_view name) {
  const bool takes = std::find(command.flags.begin(), command.flags.end(), name) != command.flags.end();
  const auto flag = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& one) { return one.name == name; });
  if (!takes || flag == kFlags.end())
    refuse(message(name, " is not a flag of ", command.name, ". gemcut-engine ", command.name, " --help lists them."));
  return *flag;
}

template <class Number>
std::optional<Number> number_in(const std::string& text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, number);
  return problem == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

void check_value(const Flag& flag, const std::string& value) {
  if (flag.kind != FlagKind::whole && flag.kind != FlagKind::real) return;
  std::optional<double> number;
  if (flag.kind == FlagKind::real) number = number_in<double>(value);
  else if (const auto whole = number_in<int64_t>(value)) number = static_cast<double>(*whole);
  if (!number || !std::isfinite(*number) || *number < flag.least || *number > flag.most)
    refuse(message(flag.name, " is ", quoted(value), ", expected ", flag.kind == FlagKind::whole ? "a whole number" :
                   "a number", flag.expected == "a whole number" ? "" : ", ", flag.expected == "a whole number" ? "" :
                   flag.expected, "."));
}

void check_words(const Command& command, size_t count) {
  if (count < command.least_words)
    refuse(message("gemcut-engine ", command.name, " needs ", command.usage, ". gemcut-engine ", command.name,
                   " --help has examples."));
  if (count > command.most_words)
    refuse(message("gemcut-engine ", command.name, " has ", count, " arguments, expected ", command.usage,
                   ". Put a text with spaces into quotes."));
}

// Two columns, the first as wide as its longest entry.
std::string columns(const std::vector<std::pair<std::string, std::string>>& rows) {
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.first.size());
  std::string text;
  for (const auto& [left, right] : rows) text += "  " + left + std::string(width + 2 - left.size(), ' ') + right + "\n";
  return text;
}

}  // namespace

std::optional<std::string> Arguments::word(size_t i) const {
  return i < words_.size() ? std::optional(words_[i]) : std::nullopt;
}

std::optional<std::string> Arguments::text(std::string_view flag) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::nullopt : std::optional(found->second.back());
}

std::vector<std::string> Arguments::texts(std::string_view flag) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

int64_t Arguments::whole(std::string_view flag, int64_t otherwise) const {
  const auto value = text(flag);
  return value ? number_in<int64_t>(*value).value_or(otherwise) : otherwise;
}

double Arguments::real(std::string_view flag, double otherwise) const {
  const auto value = text(flag);
  return value ? number_in<double>(*value).value_or(otherwise) : otherwise;
}

Arguments parse_arguments(const Command& command, const std::vector<std::string>& given) {
  Arguments arguments;
  bool flags_end = false;
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string& word = given[i];
    if (flags_end || !word.starts_with("--")) {
      arguments.words_.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_end = true;
      continue;
    }
    const size_t equals = word.find('=');
    const Flag& flag = flag_called(command, word.substr(0, equals));
    std::string value;
    if (equals != std::string::npos) {
      if (flag.kind == FlagKind::on) refuse(message(flag.name, " takes no value. Leave out what follows it."));
      value = word.substr(equals + 1);
    } else if (flag.kind != FlagKind::on) {
      if (++i == given.size()) refuse(message(flag.name, " needs a value: ", flag.name, " ", flag.metavar, "."));
      value = given[i];
    }
    check_value(flag, value);
    arguments.values_[std::string(flag.name)].push_back(value);
  }
  check_words(command, arguments.words_.size());
  return arguments;
}

std::string help_of(const Command& command) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const std::string_view name : command.flags) {
    const Flag& flag = flag_called(command, name);
    rows.emplace_back(message(flag.name, flag.metavar.empty() ? "" : " ", flag.metavar), std::string(flag.help));
  }
  rows.emplace_back("--help", "This page.");
  return message("Usage: gemcut-engine ", command.name, command.usage.empty() ? "" : " ", command.usage,
                 " [FLAGS]\n\n", command.summary, "\n\nFlags:\n", columns(rows), "\nExamples:\n", command.examples);
}

std::string help_of(const std::vector<Command>& commands) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Command& command : commands)
    if (!command.is_hidden)
      rows.emplace_back(message(command.name, command.usage.empty() ? "" : " ", command.usage),
                        std::string(command.summary));
  return message("Usage: gemcut-engine COMMAND ...\n\nRuns open language models of the Gemma family, Llama 2 and ",
                 "Mistral on the CPU.\n\nCommands:\n", columns(rows),
                 "\nMODEL is a .gguf file, a .safetensors file, or a folder with config.json and safetensors.\n",
                 "gemcut-engine COMMAND --help has flags and examples.\n\n",
                 "Standard output carries only the answer or one JSON document; all else goes to standard error.\n",
                 "Exit codes: 0 done; 1 the work failed; 2 wrong use; 3 bad or unreadable model or data;\n",
                 "4 not found; 130 interrupted.\n");
}

}  // namespace gemcut::cli
