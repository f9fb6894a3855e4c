// Standard streams and signals.
#include "cli/terminal.h"

#include <csignal>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "formats/message.h"
#include "formats/tokenizer_utf8.h"

namespace gemcut::cli {
namespace {

constexpr int kInterrupted = 130;
std::atomic<bool> g_is_guarded{false}, g_is_interrupted{false};

void on_interrupt(int) {
  // Only what is safe in a signal handler: lock-free atomics and _exit.
  if (!g_is_guarded || g_is_interrupted.exchange(true)) _exit(kInterrupted);
}

// Everything below space but newline and tab, DEL, and the C1 block would be obeyed by a terminal.
std::string shown_on_terminal(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const size_t size = std::max<size_t>(utf8_character_bytes(text), 1);
    const std::string_view character = text.substr(0, size);
    const auto first = static_cast<unsigned char>(character[0]);
    const bool is_c0 = size == 1 && (first < 32 || first == 127) && first != '\n' && first != '\t';
    const bool is_c1 = size == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
    shown += is_c0 || is_c1 ? kReplacementCharacter : character;
    text.remove_prefix(size);
  }
  return shown;
}

void check_text(std::string_view text, const std::string& where) {
  for (size_t i = 0; i < text.size();) {
    const size_t size = utf8_character_bytes(text.substr(i));
    if (!size)
      throw DataError(message("[cli.terminal] ", where, ": byte ", i,
                              " is not UTF-8, expected text in UTF-8. Convert it."));
    i += size;
  }
}

std::string read_all(std::istream& stream) {
  std::string text;
  char buffer[65536];
  while (stream.read(buffer, sizeof buffer) || stream.gcount() > 0)
    text.append(buffer, static_cast<size_t>(stream.gcount()));
  return text;
}

}  // namespace

void write_answer(std::string_view text) {
  const std::string shown = isatty(STDOUT_FILENO) ? shown_on_terminal(text) : std::string(text);
  const size_t written = std::fwrite(shown.data(), 1, shown.size(), stdout);
  if (written != shown.size() || std::fflush(stdout) != 0)
    throw Error(ErrorKind::failed, message("[cli.terminal] standard output: cannot be written (", std::strerror(errno),
                                           "). Make room, or write elsewhere."));
}

void print_notice(std::string_view line, bool quiet) {
  if (!quiet) std::cerr << line << std::endl;
}

void print_error(std::string_view message) {
  // "[engine.load] " says where in the code it was written, which users need not know.
  const size_t end = message.starts_with('[') ? message.find("] ") : std::string_view::npos;
  std::cerr << "gemcut-engine: " << message.substr(end == std::string_view::npos ? 0 : end + 2) << std::endl;
}

std::string read_text_file(const std::string& path, const std::string& where) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (errno == ENOENT)
      throw Error(ErrorKind::not_found, message("[cli.terminal] ", where, ": no such file. Check the path."));
    throw DataError(message("[cli.terminal] ", where, ": cannot be read (", std::strerror(errno),
                            "). Give a readable text file."));
  }
  std::string text = read_all(file);
  if (file.bad())
    throw DataError(message("[cli.terminal] ", where, ": cannot be read (", std::strerror(errno),
                            "). Give a readable text file."));
  check_text(text, where);
  return text;
}

std::string read_prompt(const std::optional<std::string>& given, const std::optional<std::string>& file, bool quiet) {
  if (given && file)
    throw Error(ErrorKind::usage, "[cli.terminal] PROMPT and --file are both given. Give one of them.");
  const std::string where = given ? "PROMPT" : file ? "--file " + *file : "standard input";
  std::string text;
  if (given) {
    text = *given;
  } else if (file) {
    text = read_text_file(*file, where);
  } else {
    if (isatty(STDIN_FILENO)) print_notice("Reading the prompt; end it with Ctrl-D.", quiet);
    text = read_all(std::cin);
  }
  check_text(text, where);
  if (!given && text.ends_with('\n')) text.pop_back();
  if (!given && text.ends_with('\r')) text.pop_back();
  if (text.empty())
    throw Error(ErrorKind::usage, message("[cli.terminal] ", where, " is empty, expected the text to continue. ",
                                          "Give PROMPT, --file PATH or standard input."));
  return text;
}

std::optional<std::string> read_line(std::string_view prompt) {
  if (isatty(STDIN_FILENO)) std::cerr << prompt << std::flush;
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

InterruptGuard::InterruptGuard() {
  g_is_interrupted = false;
  g_is_guarded = true;
}

InterruptGuard::~InterruptGuard() { g_is_guarded = false; }

const std::atomic<bool>* InterruptGuard::flag() const { return &g_is_interrupted; }

bool InterruptGuard::was_interrupted() const { return g_is_interrupted; }

void handle_interrupts() { std::signal(SIGINT, on_interrupt); }

}  // namespace gemcut::cli
