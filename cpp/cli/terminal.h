// What the commands print, what they read, and Ctrl-C.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

#include "formats/error.h"

namespace gemcut::cli {

// A prompt, text or data file that cannot be read as what it should be; exit code 3.
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(ErrorKind::failed, message) {}
};

// Writes to standard output at once. On a terminal, control characters but newline and tab become U+FFFD.
// Throws ErrorKind::failed where it cannot be written.
void write_answer(std::string_view text);
// A line on standard error, unless `quiet`.
void print_notice(std::string_view line, bool quiet = false);
// An error on standard error.
void print_error(std::string_view message);

// The prompt: `given`, the file, or standard input; one newline at the end of the last two does not belong to it.
// Throws usage (both given, or no text), not_found, DataError (not readable, not UTF-8).
std::string read_prompt(const std::optional<std::string>& given, const std::optional<std::string>& file, bool quiet);
// Bytes of a text file in UTF-8. Throws as read_prompt; `where` names it in messages.
std::string read_text_file(const std::string& path, const std::string& where);
// A line of standard input without its newline; nothing at its end.
std::optional<std::string> read_line(std::string_view prompt);

// While one lives, Ctrl-C sets a flag instead of ending the process with exit code 130; a second Ctrl-C ends it.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  const std::atomic<bool>* flag() const;
  bool was_interrupted() const;
};
// Makes Ctrl-C end the process with exit code 130 wherever no guard lives.
void handle_interrupts();

}  // namespace gemcut::cli
