// The commands of gemcut-engine; each returns the exit code.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"

namespace gemcut::cli {

int run(const Arguments& arguments);         // complete one prompt
int chat(const Arguments& arguments);        // a conversation at the terminal
int bench(const Arguments& arguments);       // how fast a model is here
int perplexity(const Arguments& arguments);  // how well a model predicts a text
int inspect(const Arguments& arguments);     // what a model is
int tokens(const Arguments& arguments);      // lines to token ids, for tests against other tokenizers
int version(const Arguments& arguments);

extern const std::vector<Command> kCommands;

// The whole command line, without the program's name: parses, runs, prints errors, returns the exit code.
int run_command_line(const std::vector<std::string>& given);

}  // namespace gemcut::cli
