// What every part of the engine throws.
#pragma once

#include <stdexcept>
#include <string>

namespace gemcut {

// Which of gemcut.errors' classes a failure is to Python, and which exit code to the command line.
enum class ErrorKind { usage, context_length, config, checkpoint, tokenizer, not_found, out_of_memory, cancelled, failed };

// A failure in the user's words: "[engine.load] where: what was found, what was expected, what to do."
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace gemcut
