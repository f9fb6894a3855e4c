// An engine that several threads of Python may use, one pass at a time, and that can be closed under its batches.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace gemcut {

// Called between tokens and between the chunks of a prompt, without any lock held; it throws to end the work there.
using InterruptCheck = std::function<void()>;

// Tokens of one pass over a prompt: what an interruption waits for at most.
inline constexpr int64_t pass_tokens = 512;

class Batch;

class SharedEngine {
 public:
  explicit SharedEngine(std::unique_ptr<Engine> engine);

  // Held while an engine computes, by whoever reads or changes sequences.
  std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }
  // Throws ErrorKind::failed after close(). For passes, under lock().
  Engine& engine() const;
  // Frees the keys and values of every batch, then the weights.
  void close();

  // Logits (T, V) or, with want_hidden, states after the final norm (T, D) of one sequence into `out`.
  void rows(std::span<const int32_t> token_ids, bool want_hidden, std::span<float> out, const InterruptCheck& check);
  // For each sequence T - 1 log-probabilities: of token t + 1 given the tokens up to t.
  std::vector<std::vector<float>> score(const std::vector<std::vector<int32_t>>& token_ids,
                                        const InterruptCheck& check);

 private:
  friend class Batch;
  mutable std::mutex mutex_;
  std::unique_ptr<Engine> engine_;
  std::set<Batch*> batches_;
};

}  // namespace gemcut
