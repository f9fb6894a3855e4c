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
#include "engine/prefix_cache.h"
#include "engine/scorer.h"

namespace gemcut {

// Called between tokens and between the chunks of a prompt, without any lock held; it throws to end the work there.
using InterruptCheck = std::function<void()>;

// Tokens of one pass over a prompt: what an interruption waits for at most.
inline constexpr int64_t pass_tokens = 512;

class Batch;

// What greedy decoding guessed ahead since the engine was loaded.
struct LookupCounts {
  int64_t guessed = 0, right = 0;
};

class SharedEngine {
 public:
  // Ended sequences are kept in up to prefix_cache_bytes for texts with the same beginning.
  SharedEngine(std::unique_ptr<Engine> engine, int64_t prefix_cache_bytes);

  // Held while an engine computes, by whoever reads or changes sequences.
  std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }
  // Throws ErrorKind::failed after close(). For passes, under lock().
  Engine& engine() const;
  // Frees the keys and values of every batch, then the weights.
  void close();

  // The most that a sequence of max_tokens ever takes, what its sliding layers overwrite included. Throws as Engine's
  // and ErrorKind::failed after close().
  int64_t sequence_bytes(int64_t max_tokens) const;
  // Limit and use of what ended sequences keep for texts with the same beginning; of freed memory no more waits than the
  // limit either, unless it is 0. Throw ErrorKind::failed after close().
  int64_t prefix_cache_limit() const;
  void set_prefix_cache_limit(int64_t max_bytes);
  int64_t prefix_cache_bytes() const;
  // Whether greedy decoding of one sequence guesses tokens ahead. The tokens are the same.
  bool prompt_lookup() const;
  void set_prompt_lookup(bool is_on);
  LookupCounts lookup_counts() const;

  // Logits (T, V) or, with want_hidden, states after the final norm (T, D) of one sequence into `out`.
  void rows(std::span<const int32_t> token_ids, bool want_hidden, std::span<float> out, const InterruptCheck& check);
  // How probable the ends of texts are; the check is called between groups of them.
  std::vector<TextScore> score(std::span<const ScoredText> texts, const InterruptCheck& check);

 private:
  friend class Batch;
  mutable std::mutex mutex_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<PrefixCache> prefix_cache_;  // these two are gone before the engine
  std::unique_ptr<Scorer> scorer_;
  bool prompt_lookup_ = true;
  LookupCounts lookup_counts_;
  std::set<Batch*> batches_;
};

}  // namespace gemcut
