// One answer, token by token. Python: gemcut.generate.sequence.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/loading.h"
#include "cli/stop_strings.h"
#include "engine/sampler.h"

namespace gemcut::cli {

struct GenerationOptions {
  int64_t max_tokens = 64;
  std::vector<std::string> stops;
  SamplingOptions sampling;
  int64_t seed = 0;
};

// What the flags say, on top of `defaults`. Throws ErrorKind::usage where a flag has no effect without a temperature.
GenerationOptions generation_options(const Arguments& arguments, int64_t max_tokens, const SamplingOptions& defaults);

struct Answer {
  std::string text;
  std::vector<int32_t> token_ids;  // without the id that ended it
  std::string finish_reason;       // "stop", "length" or "interrupted"
  int64_t prompt_tokens = 0, completion_tokens = 0;
  int64_t prefill_tokens = 0;      // of the prompt, those that were computed
  double prefill_seconds = 0, decode_seconds = 0;

  std::string json() const;        // the keys of `gemcut run --json`
  std::string speed() const;       // one line for people
};

// Throws ErrorKind::context_length where a prompt leaves no room for an answer in the model's context.
void check_prompt(const Model& model, int64_t prompt_tokens);

// Completes `prompt_ids`, of which the sequence already holds the beginning. The sequence has room for the prompt and
// max_tokens more, or the model's context ends first. `show` gets text as soon as it is certain, and Ctrl-C ends the
// answer. Throws what Engine::step throws.
Answer generate(const Model& model, Sequence& sequence, const std::vector<int32_t>& prompt_ids,
                const GenerationOptions& options, const std::function<void(const std::string&)>& show);

}  // namespace gemcut::cli
