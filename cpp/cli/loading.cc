// The tokenizer is built on a thread of its own while the weights load.
#include "cli/loading.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>

#include "cli/terminal.h"
#include "formats/message.h"

namespace gemcut::cli {
namespace {

int64_t context_of(const Arguments& arguments, const Config& config) {
  const int64_t limit = config.max_position_embeddings;
  const int64_t context = arguments.whole("--context", limit);
  if (context > limit)
    throw Error(ErrorKind::context_length, message("[cli.loading] --context is ", context, ", expected 1 to ", limit,
                                                   ", the model's own context. Lower it."));
  return context;
}

std::string described(const Model& model) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.2f", model.load_seconds);
  const int threads = model.engine->num_threads();
  return message(model.path, ": ", model.engine->dtype(), ", ", model.engine->isa(), ", ", threads,
                 threads == 1 ? " thread" : " threads", ", loaded in ", seconds, " s");
}

}  // namespace

void check_tokenizer_matches(const Tokenizer& tokenizer, int64_t vocab_size, const std::string& where) {
  const int32_t highest = std::max({tokenizer.max_text_token_id(), tokenizer.bos_token_id(), tokenizer.eos_token_id(),
                                    tokenizer.pad_token_id()});
  if (highest >= vocab_size)
    throw Error(ErrorKind::tokenizer, message("[cli.loading] ", where, ": its tokenizer uses token ids up to ", highest,
                                              ", but the embedding has ", vocab_size, " rows. Use the tokenizer that ",
                                              "came with these weights."));
}

Model load_model(const Arguments& arguments, bool with_tokenizer) {
  const auto begin = std::chrono::steady_clock::now();
  Model model;
  model.path = arguments.words()[0];
  model.checkpoint = Checkpoint::open(model.path);
  model.context = context_of(arguments, model.checkpoint->config());
  std::future<std::unique_ptr<Tokenizer>> tokenizer;
  if (with_tokenizer)
    tokenizer = std::async(std::launch::async, Tokenizer::make, std::cref(model.checkpoint->vocabulary()), model.path);
  EngineOptions options;
  options.num_threads = static_cast<int>(arguments.whole("--threads", 0));
  model.engine = Engine::load(*model.checkpoint, options);
  if (with_tokenizer) {
    model.tokenizer = tokenizer.get();
    check_tokenizer_matches(*model.tokenizer, model.checkpoint->config().vocab_size, model.path);
  }
  model.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  print_notice(described(model), arguments.has("--quiet"));
  return model;
}

}  // namespace gemcut::cli
