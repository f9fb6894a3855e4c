// Guesses of the next tokens from the text's own past, for greedy decoding: a pass over the guesses costs little more
// than a pass over one token, because the weights are read once, and it says exactly which of them are right.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace gemcut {

// How often guesses were right, and whether the next ones are worth their time.
class GuessRecord {
 public:
  // Tokens to guess; 0 where it would not pay. costs[n] is the time of a pass with n guesses, in passes of one token, for
  // as many guesses as may be made at most.
  int64_t choose(std::span<const double> costs);
  void note(int64_t guessed, int64_t right);

 private:
  static constexpr double first_tried = 2, first_right = 1.4;  // what is believed before anything was tried
  static constexpr int64_t first_wait = 16, longest_wait = 512;  // chances let go before the next trial
  double tried_ = first_tried, right_ = first_right;
  int64_t waited_ = 0, wait_ = first_wait;
};

// Of one text. Used by one thread at a time.
class PromptLookup {
 public:
  // With the token before them they still make a pass of few rows, 8, where the kernels read the weights once.
  static constexpr int64_t max_guesses = 7;

  PromptLookup();
  // Up to max_tokens tokens that may follow; often none. `token_ids` is the text so far, what it was before and more.
  std::vector<int32_t> guess(std::span<const int32_t> token_ids, int64_t max_tokens);
  // What came of the guesses given last, and how long the pass over them (or over the one token without any) took.
  void note(int64_t guessed, int64_t right, double seconds);

  // All guesses since the beginning, and those of them that were right.
  int64_t num_guessed() const { return num_guessed_; }
  int64_t num_right() const { return num_right_; }

 private:
  static constexpr size_t lengths[] = {3, 2};  // of the n-grams looked for, the best first
  std::unordered_map<uint64_t, size_t> ends_[2];  // of every n-gram's last occurrence but the text's end
  size_t indexed_ = 0;                            // tokens of the text that are in them
  GuessRecord records_[2];                        // of each length
  size_t used_ = 0;                               // the length that the last guess came from
  double one_token_seconds_ = 0;                  // of a pass, smoothed
  double costs_[max_guesses + 1];                 // see GuessRecord::choose
  int64_t num_guessed_ = 0, num_right_ = 0;
};

// Appends to the sequence, which holds all of `token_ids` but the last, that token and right guesses; returns the most
// probable tokens that follow, one after the other as plain decoding would choose them: at least 1, at most max_tokens.
// The last of them, the only one that may come from logits that are not finite, is not stored yet: its row is
// engine.head(number of tokens - 1). Throws what Engine::step throws.
std::vector<int32_t> decode_with_lookup(Engine& engine, Sequence& sequence, std::span<const int32_t> token_ids,
                                        int64_t max_tokens, PromptLookup& lookup);

}  // namespace gemcut
