// Several sequences that are decoded together: the native side of gemcut.interfaces.LanguageModel's caches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bindings/shared_engine.h"
#include "engine/engine.h"
#include "engine/prompt_lookup.h"
#include "engine/sampler.h"

namespace gemcut {

struct DecodeRequest {
  int64_t num_steps = 1;
  std::vector<SamplingOptions> options;  // B
  std::span<const float> uniforms;       // (B, num_steps)
  int num_top = -1;                      // as choose_token has it
  std::vector<uint32_t> mask;            // (B, words) as choose_token has it, or empty
  std::vector<int32_t> stop_token_ids;
};

// A weight that is no number reaches the logits, where looking at the largest one costs nothing. Throws checkpoint.
void check_finite(const Engine::HeadView& view);

// A chosen token is stored with the pass that follows it. An interrupted call leaves tokens that the next one stores
// first, so a sequence is always one that could have come about without the interruption.
class Batch {
 public:
  Batch(std::shared_ptr<SharedEngine> engine, int64_t batch_size, int64_t max_tokens);
  // One sequence out of a file of save_state(). Throws what Engine::load_sequence throws.
  Batch(std::shared_ptr<SharedEngine> engine, const std::string& path, int64_t max_tokens);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  int64_t capacity() const { return capacity_; }
  int64_t num_bytes() const;                            // memory of keys and values; 0 after the engine was closed
  std::vector<std::vector<int32_t>> token_ids() const;  // every token of each sequence, in order

  // Tokens of each sequence that did not have to be computed when it was empty and got its prompt.
  std::vector<int64_t> num_reused() const;

  // Appends tokens to each sequence; one that was empty goes on from another of this engine, alive or ended, that has
  // the same beginning. Throws usage and context_length before anything is changed.
  void prefill(const std::vector<std::vector<int32_t>>& token_ids, const InterruptCheck& check);
  // The same without computing them: they wait for the next pass.
  void begin(const std::vector<std::vector<int32_t>>& token_ids);
  // Chooses and appends up to num_steps tokens to every sequence; ends early once each has had a stop id.
  // The choices (steps, B). Throws usage for a sequence without a token.
  std::vector<std::vector<Choice>> decode(const DecodeRequest& request, const InterruptCheck& check);
  // Saves one sequence with all its tokens. Throws usage for a row that is none, and what Engine::save_sequence throws.
  void save_state(int64_t row, const std::string& path, const InterruptCheck& check);

 private:
  friend class SharedEngine;
  friend class Text;
  friend class TextPass;
  // A row of logits, kept past its pass.
  struct KeptHead {
    Engine::HeadView view;
    std::vector<float> logits, group_max;
    void keep(const Engine::HeadView& head, int64_t vocab_size);
  };
  struct Row {
    std::unique_ptr<Sequence> sequence;
    std::vector<int32_t> token_ids;
    size_t answer_start = 0;  // where in token_ids the answer began: after the last prefill
    int64_t num_reused = 0;
    const Row* leader = nullptr;  // the row that first computes num_shared tokens that this one begins with too
    int64_t num_shared = 0;
    PromptLookup lookup;
    KeptHead head;            // of the last token, once all are stored and none was chosen after it
    std::span<const int32_t> waiting() const;
  };

  void check_room(const std::vector<std::vector<int32_t>>& token_ids) const;
  std::unique_ptr<Sequence> new_sequence();
  void reuse(Row& row);
  template <class Make>
  void replace(Row& row, Make&& make);
  bool waits_for_leader(Row& row);
  bool has_backlog() const;
  void store_all(const InterruptCheck& check);
  bool store_some();
  std::vector<Engine::HeadView> heads(bool best_only);
  std::vector<Choice> choose(const DecodeRequest& request, bool best_only, int64_t step);
  std::vector<Choice> choose_ahead(std::span<const int32_t> stop_token_ids, int64_t max_tokens);
  bool can_look_ahead(bool best_only) const;
  void forget();

  std::shared_ptr<SharedEngine> engine_;
  int64_t capacity_;
  std::vector<Row> rows_;
};

}  // namespace gemcut
