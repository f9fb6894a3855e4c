// Choosing the next token from a row of logits. Equals gemcut.model.sampling_host.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace gemcut {

// Python: gemcut.interfaces.SamplingOptions, the seed left out (the caller brings the random number).
struct SamplingOptions {
  float temperature = 0;
  int64_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;

  bool has_penalties() const;
};

struct Choice {
  int32_t token_id = 0;
  float logprob = 0;                             // under the model's own distribution
  std::vector<std::pair<int32_t, float>> top;    // (id, logprob), best first
};

// Whether choose_token looks at nothing but the best allowed token, so that Engine::step may leave other logits out.
inline bool needs_best_only(const SamplingOptions& options, int num_top) {
  return options.temperature <= 0 && !options.has_penalties() && num_top < 0;
}

// seen: every token of the sequence; answer: those of its answer so far (for presence and frequency).
// allowed: bit i % 32 of word i / 32 allows token i; no words allow all. Throws usage where a mask forbids every token.
// num_top: -1 no log-probabilities, else how many alternatives.
// Never sorts the vocabulary: the head's group maxima bound where the best tokens are.
Choice choose_token(const Engine::HeadView& head, int64_t vocab_size, const SamplingOptions& options, float uniform,
                    std::span<const int32_t> seen, std::span<const int32_t> answer,
                    std::span<const uint32_t> allowed, int num_top);

// Throws usage unless the mask has a word for each 32 tokens and allows one or more of them; no words are as good.
void check_mask(std::span<const uint32_t> allowed, int64_t vocab_size);

}  // namespace gemcut
