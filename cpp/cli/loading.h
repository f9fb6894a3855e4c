// A model ready to run: its file, its tokenizer and its engine, loaded side by side.
#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "engine/engine.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer.h"

namespace gemcut::cli {

struct Model {
  std::string path;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;  // none where it was not wanted
  std::unique_ptr<Engine> engine;
  int64_t context = 0;                   // tokens of prompt and answer together
  double load_seconds = 0;
};

// The model at the first word of `arguments`, by --threads and --context; says on standard error what it is.
// Throws what Checkpoint::open, Tokenizer::make and Engine::load throw; context_length where --context is more than
// the model's; tokenizer where its text becomes ids that the model has no row for.
Model load_model(const Arguments& arguments, bool with_tokenizer = true);

// Throws ErrorKind::tokenizer where text becomes ids of `vocab_size` or more.
void check_tokenizer_matches(const Tokenizer& tokenizer, int64_t vocab_size, const std::string& where);

}  // namespace gemcut::cli
