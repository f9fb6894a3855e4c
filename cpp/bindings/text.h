// Texts that join and leave at any pass: the native side of gemcut.interfaces.ContinuousModel.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bindings/batch.h"
#include "bindings/shared_engine.h"
#include "engine/sampler.h"

namespace gemcut {

struct TextOptions {
  SamplingOptions sampling;
  int num_top = -1;                      // as choose_token has it
  std::vector<int32_t> stop_token_ids;
};

// A prompt and what has been chosen after it. Used by one thread at a time; SharedEngine::close() may come from any.
class Text {
 public:
  // Room for max_tokens tokens. What other texts of the engine have computed of the beginning is taken over; nothing is
  // computed. Throws usage, context_length and out_of_memory.
  Text(std::shared_ptr<SharedEngine> engine, const std::vector<int32_t>& token_ids, int64_t max_tokens, TextOptions options);

  int64_t num_reused() const { return num_reused_; }    // tokens of the prompt that need not be computed
  int num_top() const { return options_.num_top; }
  int64_t num_waiting() const { return num_waiting_; }  // tokens that are not computed yet
  // Tokens of the answer that nobody had to choose. Throws as the constructor does.
  void append(const std::vector<int32_t>& token_ids);

 private:
  friend class TextPass;
  Batch batch_;  // of one row
  TextOptions options_;
  int64_t num_reused_ = 0, num_waiting_ = 0;
};

struct Share {
  Text* text = nullptr;
  int64_t max_tokens = 1;                // of its waiting tokens to compute; once none waits, a token is chosen
  std::span<const float> uniforms;       // (num_steps,); empty for a text that takes the best
  std::span<const uint32_t> allowed;     // as choose_token has it
};

// Computes tokens of different texts of one engine together, chooses num_steps tokens for each that has none waiting,
// and returns them. More than one step is for texts with one token waiting and no mask; it ends early, after the same
// number for each, once one of them has met a stop id. A text's numbers do not depend on the others.
// Throws usage before anything is changed; what the engine throws leaves the texts as they were before that step.
std::vector<std::vector<Choice>> run_pass(std::span<const Share> shares, int64_t num_steps, const InterruptCheck& check);

}  // namespace gemcut
