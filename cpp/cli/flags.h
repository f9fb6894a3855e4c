// The command line as a table: what flags there are, what they take, and which command takes which.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gemcut::cli {

enum class FlagKind : uint8_t { on, whole, real, text, texts };

struct Flag {
  std::string_view name;     // with its dashes
  FlagKind kind;
  std::string_view metavar;  // what stands for its value in help
  std::string_view help;
  double least = 0, most = 0;        // of a number, both included
  std::string_view expected = "";    // the range in words
};

// All flags of all commands.
extern const std::vector<Flag> kFlags;

class Arguments;

struct Command {
  std::string_view name;
  std::string_view usage;    // of what is no flag: "MODEL [PROMPT]"
  std::string_view summary;  // one sentence
  size_t least_words, most_words;
  std::vector<std::string_view> flags;
  std::string_view examples;
  int (*run)(const Arguments&);  // returns the exit code
  bool is_hidden = false;
};

// What was given: words, and flags with their values.
class Arguments {
 public:
  const std::vector<std::string>& words() const { return words_; }
  std::optional<std::string> word(size_t i) const;
  bool has(std::string_view flag) const { return values_.contains(flag); }
  int64_t whole(std::string_view flag, int64_t otherwise) const;
  double real(std::string_view flag, double otherwise) const;
  std::optional<std::string> text(std::string_view flag) const;
  std::vector<std::string> texts(std::string_view flag) const;

 private:
  friend Arguments parse_arguments(const Command&, const std::vector<std::string>&);
  std::vector<std::string> words_;
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

// Throws ErrorKind::usage: an unknown flag, a value that is missing or out of range, too few or too many words.
// A flag given twice counts the last time; "--" ends the flags.
Arguments parse_arguments(const Command& command, const std::vector<std::string>& given);

// The help page of one command, and of all.
std::string help_of(const Command& command);
std::string help_of(const std::vector<Command>& commands);

}  // namespace gemcut::cli
