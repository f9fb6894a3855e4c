// gemcut-engine: Gemcut's C++ engine at the command line, without Python.
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal.h"

int main(int argument_count, char** arguments) {
  gemcut::cli::handle_interrupts();
  return gemcut::cli::run_command_line(std::vector<std::string>(arguments + 1, arguments + argument_count));
}
