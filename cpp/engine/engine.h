// A model on the CPU: its packed weights, its threads, and the sequences that share its passes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/config.h"

namespace gemcut {

enum class CacheType : uint8_t { bf16, f32 };  // how keys and values are kept

// What an adapter adds to one matrix (out, in): scale * B A. The numbers are finite, and only read during load().
struct AdapterMatrix {
  std::string name;                    // canonical, such as "model.layers.0.self_attn.q_proj.weight"
  int64_t rank = 0, rows = 0, columns = 0;
  const float* a = nullptr;            // (rank, columns)
  const float* b = nullptr;            // (rows, rank)
  float scale = 1;
};

struct EngineOptions {
  int num_threads = 0;                 // 0: one for each core this process may use
  CacheType cache_type = CacheType::bf16;
  bool use_layout_cache = true;        // keep the packed weights in a file, or only in memory
  std::string layout_folder;           // empty: the default beside the hub cache
  int64_t layout_max_bytes = 0;        // of all kept layouts together; 0: the default
  std::vector<AdapterMatrix> adapter;  // computed beside the weights
  std::function<void(const std::string&)> warn;  // told what could not be done but is not needed
};

// One text's tokens, keys and values. Made by Engine::new_sequence; used with that engine only, by one thread at a time.
class Sequence {
 public:
  virtual ~Sequence() = default;
  virtual int64_t length() const = 0;             // tokens whose keys and values are stored
  virtual int64_t capacity() const = 0;
  virtual const std::vector<int32_t>& token_ids() const = 0;
  virtual int64_t num_bytes() const = 0;          // memory of keys and values
};

// Tokens to append to one sequence in a pass. The rest is for Engine::step.
struct Work {
  Sequence* sequence = nullptr;
  std::span<const int32_t> token_ids;
  bool wants_row = true;                          // whether what follows its last token is wanted
  std::span<const uint32_t> allowed = {};         // the tokens that matter, as choose_token has them; empty: all
};

// A token whose probability is wanted: of what follows token `token` of a work.
struct WantedToken {
  size_t work = 0, token = 0;
  int32_t token_id = 0;
};

struct TokenScore {
  float logprob = 0;                              // natural logarithm
  bool is_best = true;                            // no token is more probable
};

enum class Rows : uint8_t { none, last, all };    // of which appended tokens results are wanted

// What one pass gives: rows in the order of the work, then of its tokens.
struct Results {
  std::vector<float> logits;                      // (rows, V) float32, soft-capped; empty unless asked for
  std::vector<float> hidden;                      // (rows, D) float32 after the final norm; empty unless asked for
};

struct PassOptions {
  Rows rows = Rows::last;
  bool want_logits = true;
  bool want_hidden = false;
};

class Engine {
 public:
  // Packs the weights (or maps a kept layout). The checkpoint may be closed afterwards.
  // Throws out_of_memory with the bytes needed and there, before anything is allocated.
  static std::unique_ptr<Engine> load(const Checkpoint& checkpoint, const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const Config& config() const = 0;
  virtual const std::string& isa() const = 0;     // "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "neon", "portable"
  virtual int num_threads() const = 0;
  virtual std::string dtype() const = 0;          // how most weights are stored: "q8_0", "bfloat16", "float32", ...
  virtual int64_t weight_bytes() const = 0;       // of the packed weights and the adapter
  virtual int64_t weight_bytes_per_token() const = 0;  // read to decode one token by step() with best_only
  virtual int64_t multiply_adds_per_token() const = 0; // of the matrices, the output head's left out
  virtual bool from_layout_file() const = 0;      // read from a kept layout

  // Bytes of keys and values of one sequence of `max_tokens`; at most max_position_embeddings or context_length is thrown.
  virtual int64_t sequence_bytes(int64_t max_tokens) const = 0;
  // The most that keep_snapshots(max_bytes) ever adds to them.
  virtual int64_t max_snapshot_bytes(int64_t max_tokens, int64_t max_bytes) const = 0;
  virtual std::unique_ptr<Sequence> new_sequence(int64_t max_tokens) = 0;
  // A copy of the first `length` tokens (all without it) that goes its own way. Throws usage where restorable() is less.
  virtual std::unique_ptr<Sequence> fork(const Sequence& sequence, int64_t max_tokens,
                                         std::optional<int64_t> length = std::nullopt) = 0;
  // Forget all but the first `length` tokens; false (nothing changed) if a sliding layer no longer holds what they need.
  virtual bool truncate(Sequence& sequence, int64_t length) = 0;
  // The most of the first `length` tokens that truncate() and fork() can go back to.
  virtual int64_t restorable(const Sequence& sequence, int64_t length) const = 0;
  // Lets them go back further: what sliding layers overwrite from now on is kept in up to max_bytes of memory.
  virtual void keep_snapshots(Sequence& sequence, int64_t max_bytes) = 0;
  // How much memory of ended sequences waits for the next ones; 512 MiB at most.
  virtual void keep_memory(int64_t max_bytes) = 0;
  // A sequence's tokens, keys and values in a file that is there whole or not at all. load_sequence() takes it on the
  // same model and cache type, whatever the instruction set; on the same one it goes on exactly as the saved one would.
  // Throw usage, failed (the disk refuses), not_found, checkpoint (damaged, or of another model, cache type or version),
  // context_length, out_of_memory.
  virtual void save_sequence(const Sequence& sequence, const std::string& path) = 0;
  virtual std::unique_ptr<Sequence> load_sequence(const std::string& path, int64_t max_tokens) = 0;

  // Appends every work's tokens and computes them together: the weights are read once for all (long works in chunks).
  // Results do not depend on what shares the pass, on the chunks or on the number of threads, to the last bit.
  // Throws usage, context_length (before anything is changed) and cancelled (between chunks, when *cancel is set: the
  // chunks before it stay, and the sequences' lengths say how far they came; what follows may be appended later).
  virtual Results forward(std::span<const Work> work, const PassOptions& options = {},
                          const std::atomic<bool>* cancel = nullptr) = 0;

  // Like forward(), but what it gives is how probable the targets are, which ascend by work and token.
  virtual std::vector<TokenScore> score(std::span<const Work> work, std::span<const WantedToken> targets) = 0;
  // A text of which every position is kept; fork() and truncate() take it back to any length.
  virtual std::unique_ptr<Sequence> new_trunk(int64_t max_tokens) = 0;
  // A text that begins with the first `length` tokens of a trunk or of another branch and reads most of them there: that
  // one outlives it and stays as it is. It is for appending only.
  virtual std::unique_ptr<Sequence> branch(Sequence& from, int64_t length, int64_t max_tokens) = 0;

  // The logits of the last pass's rows without a copy: (rows, V), until the next pass.
  // With it, the row's largest logit and its id (lowest of equals).
  struct HeadView {
    const float* logits = nullptr;
    float max_logit = 0;
    int32_t best_token_id = 0;
    std::span<const float> group_max;             // largest logit of each `group_tokens` ids in a row
    int64_t group_tokens = 0;
  };
  // Like forward(), rows = last, results kept inside: head(i) is the row of work[i]. Works without tokens have no row.
  // best_only: the largest logit of those allowed and its id suffice. choose_token finds the same ones, exactly; the other
  // logits and group maxima may then be anything below. It lets the engine read less of the weights.
  virtual void step(std::span<const Work> work, const std::atomic<bool>* cancel = nullptr, bool best_only = false) = 0;
  // Like step() of one work of 1 to max_rows_kept tokens, but with the rows of all: head(i) is that of its i-th token.
  virtual void step_all(const Work& work) = 0;
  static constexpr size_t max_rows_kept = 32;
  virtual HeadView head(size_t work_index) const = 0;
};

// log(sum(exp(logits))) of a row of logits.
double log_sum_exp(const Engine::HeadView& head, int64_t vocab_size);

}  // namespace gemcut
