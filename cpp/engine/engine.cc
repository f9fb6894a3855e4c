#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "engine/adapter.h"
#include "engine/forward.h"
#include "engine/layout_file.h"
#include "engine/machine.h"
#include "engine/mapping_guard.h"
#include "engine/sequence.h"
#include "engine/state_file.h"
#include "engine/thread_pool.h"
#include "engine/weights.h"
#include "formats/error.h"

namespace gemcut {
namespace {

constexpr int most_threads = 4096;
constexpr int64_t prompt_rows = 64;  // from which a pass is arithmetic more than reading

// Says that a pass over a prompt runs, for as long as it does.
class PromptMark {
 public:
  PromptMark(std::atomic<bool>& flag, bool is_prompt) : flag_(flag) { flag_ = is_prompt; }
  ~PromptMark() { flag_ = false; }
  PromptMark(const PromptMark&) = delete;
  PromptMark& operator=(const PromptMark&) = delete;

 private:
  std::atomic<bool>& flag_;
};

std::string gibibytes(int64_t bytes) {
  const auto hundredths = static_cast<int64_t>(std::llround(static_cast<double>(bytes) / (1 << 30) * 100));
  const std::string fraction = std::to_string(hundredths % 100);
  return std::to_string(hundredths / 100) + "." + std::string(2 - fraction.size(), '0') + fraction + " GiB";
}

void check_memory(int64_t needed, const std::string& what) {
  const int64_t available = available_memory_bytes();
  if (needed > available)
    throw Error(ErrorKind::out_of_memory, "[engine.engine] " + what + " needs " + gibibytes(needed) + " of memory, but " +
                                              gibibytes(available) +
                                              " is available. Take a smaller model or context, or free memory.");
}

// Lengths that sequences had before a pass; a pass that fails leaves them as they were.
class Lengths {
 public:
  void note(CpuSequence& sequence) { before_.emplace_back(&sequence, sequence.length()); }
  void take_back() {
    for (const auto& [sequence, length] : before_) sequence->truncate(length);
  }

 private:
  std::vector<std::pair<CpuSequence*, int64_t>> before_;
};

class CpuEngine : public Engine {
 public:
  CpuEngine(const Config& config, std::vector<WeightPlace> places, std::shared_ptr<const std::byte> region,
            bool from_layout_file, std::unique_ptr<ThreadPool> pool, CacheType cache_type, Adapter adapter)
      : config_(config),
        kernels_(choose_kernels()),
        isa_(kernels_.name),
        pool_(std::move(pool)),
        cache_type_(cache_type),
        from_layout_file_(from_layout_file),
        places_(std::move(places)),
        weights_(bind_weights(config_, places_, std::move(region))),
        adapter_(std::move(adapter)),
        forward_(config_, weights_, adapter_, kernels_, *pool_, cache_type) {}

  ~CpuEngine() override {
    stop_moving_ = true;
    if (mover_.joinable()) mover_.join();
  }

  const Config& config() const override { return config_; }
  const std::string& isa() const override { return isa_; }
  int num_threads() const override { return pool_->num_threads(); }
  std::string dtype() const override;
  int64_t weight_bytes() const override { return region_bytes(places_) + adapter_.num_bytes(); }
  int64_t weight_bytes_per_token() const override;
  int64_t multiply_adds_per_token() const override;
  bool from_layout_file() const override { return from_layout_file_; }

  int64_t sequence_bytes(int64_t max_tokens) const override;
  int64_t max_snapshot_bytes(int64_t max_tokens, int64_t max_bytes) const override;
  std::unique_ptr<Sequence> new_sequence(int64_t max_tokens) override;
  std::unique_ptr<Sequence> fork(const Sequence& sequence, int64_t max_tokens, std::optional<int64_t> length) override;
  bool truncate(Sequence& sequence, int64_t length) override;
  int64_t restorable(const Sequence& sequence, int64_t length) const override;
  void keep_snapshots(Sequence& sequence, int64_t max_bytes) override;
  void keep_memory(int64_t max_bytes) override { cache_memory_->set_max_bytes(max_bytes); }
  void save_sequence(const Sequence& sequence, const std::string& path) override;
  std::unique_ptr<Sequence> load_sequence(const std::string& path, int64_t max_tokens) override;

  Results forward(std::span<const Work> work, const PassOptions& options, const std::atomic<bool>* cancel) override;
  void step(std::span<const Work> work, const std::atomic<bool>* cancel, bool best_only) override;
  void step_all(const Work& work) override;
  std::vector<TokenScore> score(std::span<const Work> work, std::span<const WantedToken> targets) override;
  std::unique_ptr<Sequence> new_trunk(int64_t max_tokens) override;
  std::unique_ptr<Sequence> branch(Sequence& from, int64_t length, int64_t max_tokens) override;
  HeadView head(size_t work_index) const override;

 private:
  void start_moving();
  void move_weights();
  StateKey state_key();
  void check_region() const;
  void check_work(std::span<const Work> work) const;
  void check_context(int64_t max_tokens) const;
  template <class Use>
  bool run_pass(std::span<const Work> work, size_t& current, size_t& done, Lengths& lengths, Use&& use);
  template <class Use>
  void run_passes(std::span<const Work> work, const std::atomic<bool>* cancel, Use&& use);

  const Config config_;
  const Kernels& kernels_;
  const std::string isa_;
  const std::unique_ptr<ThreadPool> pool_;
  const CacheType cache_type_;
  const bool from_layout_file_;
  const std::vector<WeightPlace> places_;
  Weights weights_;
  const Adapter adapter_;
  Forward forward_;
  mutable std::mutex mutex_;            // one pass at a time; the weights change place between passes
  std::thread mover_;
  std::atomic<bool> stop_moving_{false};
  std::atomic<bool> takes_prompt_{false};
  const std::shared_ptr<CacheMemory> cache_memory_ = std::make_shared<CacheMemory>();
  std::vector<float> head_logits_, head_max_;
  std::vector<int64_t> head_rows_;      // of each work; -1: none
  std::string model_hash_;              // for state files; made when the first is
};

// Weights that were mapped start at once, but come through small pages, which costs up to a third of the memory's
// speed. After the first pass they move to memory of their own in large ones, part by part, beside the work; but not
// beside a prompt, which wants every core and loses little to small pages.
void CpuEngine::start_moving() {
  if (!from_layout_file_ || mover_.joinable() || stop_moving_) return;
  if (available_memory_bytes() < weights_.bytes + weights_.bytes / 4) return;
  try {
    mover_ = std::thread([this] { move_weights(); });
  } catch (const std::system_error&) {
    stop_moving_ = true;  // the system gives no thread: the mapped weights go on serving
  }
}

void CpuEngine::move_weights() {
  try {
    const std::shared_ptr<std::byte> memory = allocate_region(weights_.bytes);
    const auto go_on = [this] {
      while (takes_prompt_ && !stop_moving_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return !stop_moving_;
    };
    if (!move_region(weights_.region.get(), weights_.bytes, memory.get(), go_on)) return;
    const std::lock_guard lock(mutex_);
    if (!is_mapping_damaged(weights_.region.get())) weights_ = bind_weights(config_, places_, memory);
  } catch (const std::exception&) {
    stop_moving_ = true;  // no memory for it: the mapped weights go on serving
  }
}

void CpuEngine::check_region() const {
  if (is_mapping_damaged(weights_.region.get()))
    throw Error(ErrorKind::checkpoint, "[engine.engine] the model's kept layout was cut short while it was in use, expected "
                                       "all of its bytes. Load the model again.");
}

std::string CpuEngine::dtype() const {
  static const char* const names[num_formats] = {"float32", "float16", "bfloat16", "q8_0", "q5_0", "q4_0",  "q5_1", "q4_1",
                                                 "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_xs", "q8_0", "q8_0"};
  std::map<Format, int64_t> bytes;
  for (const WeightPlace& place : places_)
    if (place.is_matrix) bytes[place.format == Format::s8 ? Format::q8 : place.format] += place.bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return names[static_cast<int>(most->first)];
}

int64_t CpuEngine::weight_bytes_per_token() const {
  const std::lock_guard lock(mutex_);
  int64_t bytes = adapter_.num_bytes();
  for (const PackedMatrix* matrix : weights_.read_per_token()) bytes += matrix->num_bytes();
  bytes -= weights_.head.num_groups() * weights_.head.geometry.low_bytes;  // but for a few rows
  return bytes;
}

int64_t CpuEngine::multiply_adds_per_token() const {
  const std::lock_guard lock(mutex_);
  int64_t count = adapter_.multiply_adds();
  for (const PackedMatrix* matrix : weights_.read_per_token()) count += matrix->rows * matrix->columns;
  return count - weights_.head.rows * weights_.head.columns;
}

void CpuEngine::check_context(int64_t max_tokens) const {
  if (max_tokens < 1)
    throw Error(ErrorKind::usage, "[engine.engine] max_tokens is " + std::to_string(max_tokens) + ", expected at least 1.");
  if (max_tokens > config_.max_position_embeddings)
    throw Error(ErrorKind::context_length, "[engine.engine] " + std::to_string(max_tokens) +
                                               " tokens were asked for, but the model's context is " +
                                               std::to_string(config_.max_position_embeddings) + " tokens.");
}

int64_t CpuEngine::sequence_bytes(int64_t max_tokens) const {
  check_context(max_tokens);
  return CacheGeometry(config_, cache_type_, max_tokens).bytes;
}

int64_t CpuEngine::max_snapshot_bytes(int64_t max_tokens, int64_t max_bytes) const {
  const int64_t block_bytes = CacheGeometry(config_, cache_type_, max_tokens).snapshot_bytes;
  return Snapshots::max_bytes(max_bytes, block_bytes, config_.sliding_window.value_or(0), max_tokens);
}

std::unique_ptr<Sequence> CpuEngine::new_sequence(int64_t max_tokens) {
  check_memory(sequence_bytes(max_tokens), "a sequence of " + std::to_string(max_tokens) + " tokens");
  return std::make_unique<CpuSequence>(config_, cache_type_, max_tokens, cache_memory_);
}

std::unique_ptr<Sequence> CpuEngine::fork(const Sequence& sequence, int64_t max_tokens, std::optional<int64_t> length) {
  const auto& own = static_cast<const CpuSequence&>(sequence);
  const int64_t kept = length.value_or(own.length());
  if (max_tokens < kept)
    throw Error(ErrorKind::usage, "[engine.engine] a copy of a sequence of " + std::to_string(kept) +
                                      " tokens was asked for with room for " + std::to_string(max_tokens) + ".");
  if (kept < 0 || kept > own.length() || own.restorable(kept) != kept)
    throw Error(ErrorKind::usage, "[engine.engine] the first " + std::to_string(kept) + " tokens of a sequence of " +
                                      std::to_string(own.length()) + " were asked for, which it cannot go back to.");
  check_memory(sequence_bytes(max_tokens), "a sequence of " + std::to_string(max_tokens) + " tokens");
  auto copy = std::make_unique<CpuSequence>(config_, cache_type_, max_tokens, cache_memory_);
  copy->copy_from(own, kept);
  return copy;
}

bool CpuEngine::truncate(Sequence& sequence, int64_t length) { return static_cast<CpuSequence&>(sequence).truncate(length); }

int64_t CpuEngine::restorable(const Sequence& sequence, int64_t length) const {
  const auto& own = static_cast<const CpuSequence&>(sequence);
  return own.restorable(std::clamp<int64_t>(length, 0, own.length()));
}

void CpuEngine::keep_snapshots(Sequence& sequence, int64_t max_bytes) {
  static_cast<CpuSequence&>(sequence).keep_snapshots(max_bytes);
}

StateKey CpuEngine::state_key() {
  const std::lock_guard lock(mutex_);
  if (model_hash_.empty()) model_hash_ = adapter_.hash(hash_weights(config_, places_, weights_.region.get()));
  return {model_hash_, cache_type_};
}

void CpuEngine::save_sequence(const Sequence& sequence, const std::string& path) {
  write_state(path, state_key(), static_cast<const CpuSequence&>(sequence));
}

std::unique_ptr<Sequence> CpuEngine::load_sequence(const std::string& path, int64_t max_tokens) {
  const StateFile file(path, state_key(), config_);
  if (file.num_tokens() > max_tokens)
    throw Error(ErrorKind::context_length, "[engine.engine] " + path + ": its sequence has " +
                                               std::to_string(file.num_tokens()) + " tokens, which do not fit a cache of " +
                                               std::to_string(max_tokens) + ".");
  std::unique_ptr<Sequence> sequence = new_sequence(max_tokens);
  file.read(static_cast<CpuSequence&>(*sequence));
  return sequence;
}

void CpuEngine::check_work(std::span<const Work> work) const {
  for (const Work& one : work) {
    const int64_t total = one.sequence->length() + static_cast<int64_t>(one.token_ids.size());
    if (total > one.sequence->capacity())
      throw Error(ErrorKind::context_length, "[engine.engine] a sequence of " + std::to_string(total) +
                                                 " tokens does not fit the cache of " +
                                                 std::to_string(one.sequence->capacity()) + ".");
    for (const int32_t token : one.token_ids)
      if (token < 0 || token >= config_.vocab_size)
        throw Error(ErrorKind::usage, "[engine.engine] token_ids: " + std::to_string(token) +
                                          " is not a token id, expected 0 to " + std::to_string(config_.vocab_size - 1) + ".");
    for (const Work& other : work)
      if (&other < &one && other.sequence == one.sequence)
        throw Error(ErrorKind::usage, "[engine.engine] a sequence stands twice in one pass, expected once.");
  }
}

// Cuts the work into passes; after each, use(work index of each row, index in its work of each row).
template <class Use>
void CpuEngine::run_passes(std::span<const Work> work, const std::atomic<bool>* cancel, Use&& use) {
  size_t current = 0, done = 0;
  while (current < work.size()) {
    if (cancel && cancel->load(std::memory_order_relaxed))
      throw Error(ErrorKind::cancelled, "[engine.engine] the pass was cancelled.");
    Lengths lengths;
    try {
      if (!run_pass(work, current, done, lengths, use)) break;
    } catch (...) {
      lengths.take_back();
      throw;
    }
  }
}

// One pass of what follows token `done` of work `current`, which go on to what the next one begins with.
template <class Use>
bool CpuEngine::run_pass(std::span<const Work> work, size_t& current, size_t& done, Lengths& lengths, Use&& use) {
  std::vector<PassRow> rows;
  std::vector<std::pair<size_t, size_t>> origins;
  while (current < work.size() && static_cast<int64_t>(rows.size()) < max_pass_rows) {
    auto& sequence = static_cast<CpuSequence&>(*work[current].sequence);
    const size_t room = static_cast<size_t>(max_pass_rows) - rows.size();
    const size_t count = std::min(room, work[current].token_ids.size() - done);
    const int64_t position = sequence.length();
    for (size_t i = 0; i < count; ++i) {
      rows.push_back({&sequence, position + static_cast<int64_t>(i), work[current].token_ids[done + i]});
      origins.emplace_back(current, done + i);
    }
    lengths.note(sequence);
    sequence.append(work[current].token_ids.subspan(done, count));
    done += count;
    if (done == work[current].token_ids.size()) {
      ++current;
      done = 0;
    }
  }
  if (rows.empty()) return false;
  {
    const PromptMark mark(takes_prompt_, static_cast<int64_t>(rows.size()) >= prompt_rows);
    forward_.run(rows);
  }
  use(origins);
  check_region();
  return true;
}

Results CpuEngine::forward(std::span<const Work> work, const PassOptions& options, const std::atomic<bool>* cancel) {
  const std::lock_guard lock(mutex_);
  check_work(work);
  Results results;
  std::vector<float> padded, maxima;
  run_passes(work, cancel, [&](const std::vector<std::pair<size_t, size_t>>& origins) {
    std::vector<int64_t> wanted;
    for (size_t row = 0; row < origins.size(); ++row) {
      const bool is_last = origins[row].second + 1 == work[origins[row].first].token_ids.size();
      if (options.rows == Rows::all || (options.rows == Rows::last && is_last)) wanted.push_back(static_cast<int64_t>(row));
    }
    if (wanted.empty()) return;
    if (options.want_hidden) {
      const size_t begin = results.hidden.size(), width = static_cast<size_t>(config_.hidden_size);
      results.hidden.resize(begin + wanted.size() * width);
      forward_.final_hidden(wanted, results.hidden.data() + begin);
    }
    if (!options.want_logits) return;
    constexpr size_t part = 32;  // rows, so that the padded copy stays small
    const size_t vocab = static_cast<size_t>(config_.vocab_size), stride = static_cast<size_t>(forward_.logits_stride());
    for (size_t begin = 0; begin < wanted.size(); begin += part) {
      const size_t count = std::min(part, wanted.size() - begin);
      padded.resize(count * stride);
      maxima.resize(count * static_cast<size_t>(forward_.num_groups()));
      forward_.logits(std::span(wanted).subspan(begin, count), padded.data(), maxima.data());
      const size_t at = results.logits.size();
      results.logits.resize(at + count * vocab);
      for (size_t i = 0; i < count; ++i)
        std::memcpy(results.logits.data() + at + i * vocab, padded.data() + i * stride, vocab * sizeof(float));
    }
  });
  start_moving();
  return results;
}

void CpuEngine::step(std::span<const Work> work, const std::atomic<bool>* cancel, bool best_only) {
  const std::lock_guard lock(mutex_);
  check_work(work);
  const size_t stride = static_cast<size_t>(forward_.logits_stride()), groups = static_cast<size_t>(forward_.num_groups());
  head_rows_.clear();  // a pass that is cancelled leaves none
  std::vector<int64_t> rows(work.size(), -1);
  int64_t num_rows = 0;
  for (size_t i = 0; i < work.size(); ++i)
    if (!work[i].token_ids.empty() && work[i].wants_row) rows[i] = num_rows++;
  head_logits_.resize(std::max(head_logits_.size(), static_cast<size_t>(num_rows) * stride));
  head_max_.resize(std::max(head_max_.size(), static_cast<size_t>(num_rows) * groups));
  size_t done = 0;
  run_passes(work, cancel, [&](const std::vector<std::pair<size_t, size_t>>& origins) {
    std::vector<int64_t> last;
    std::span<const uint32_t> allowed;
    for (size_t row = 0; row < origins.size(); ++row) {
      const Work& one = work[origins[row].first];
      if (!one.wants_row || origins[row].second + 1 != one.token_ids.size()) continue;
      last.push_back(static_cast<int64_t>(row));
      allowed = one.allowed;
    }
    if (last.empty()) return;
    float *const logits = head_logits_.data() + done * stride, *const maxima = head_max_.data() + done * groups;
    // More than one row needs more arithmetic than reading: they take the whole head at once.
    if (!best_only || last.size() > 1 || !forward_.best_logit(last[0], allowed, logits, maxima))
      forward_.logits(last, logits, maxima);
    done += last.size();
  });
  head_rows_ = std::move(rows);
  start_moving();
}

std::vector<TokenScore> CpuEngine::score(std::span<const Work> work, std::span<const WantedToken> targets) {
  const std::lock_guard lock(mutex_);
  check_work(work);
  std::vector<TokenScore> scores(targets.size());
  size_t done = 0;
  run_passes(work, nullptr, [&](const std::vector<std::pair<size_t, size_t>>& origins) {
    std::vector<int64_t> rows;
    std::vector<RowTarget> wanted;
    for (size_t row = 0, next = done; row < origins.size(); ++row) {
      const auto is_here = [&] { return next < targets.size() && std::pair(targets[next].work, targets[next].token) == origins[row]; };
      if (!is_here()) continue;
      for (; is_here(); ++next) wanted.push_back({static_cast<int64_t>(rows.size()), targets[next].token_id});
      rows.push_back(static_cast<int64_t>(row));
    }
    if (!rows.empty()) forward_.score(rows, wanted, scores.data() + done);
    done += wanted.size();
  });
  start_moving();
  return scores;
}

std::unique_ptr<Sequence> CpuEngine::new_trunk(int64_t max_tokens) {
  check_context(max_tokens);
  check_memory(CacheGeometry(config_, cache_type_, max_tokens, Kept::all).bytes,
               "a sequence of " + std::to_string(max_tokens) + " tokens");
  return std::make_unique<CpuSequence>(config_, cache_type_, max_tokens, cache_memory_, Kept::all);
}

std::unique_ptr<Sequence> CpuEngine::branch(Sequence& from, int64_t length, int64_t max_tokens) {
  check_context(max_tokens);
  check_memory(CacheGeometry(config_, cache_type_, max_tokens, Kept::all).bytes,
               "a sequence of " + std::to_string(max_tokens) + " tokens");
  return std::make_unique<CpuSequence>(config_, cache_type_, static_cast<CpuSequence&>(from), length, max_tokens);
}

void CpuEngine::step_all(const Work& work) {
  const std::lock_guard lock(mutex_);
  const size_t count = work.token_ids.size();
  if (count == 0 || count > max_rows_kept)
    throw Error(ErrorKind::usage, "[engine.engine] " + std::to_string(count) + " tokens were given to step_all, expected 1 to " +
                                      std::to_string(max_rows_kept) + ".");
  check_work({&work, 1});
  head_rows_.clear();
  std::vector<int64_t> rows(count);
  std::iota(rows.begin(), rows.end(), int64_t{0});
  head_logits_.resize(std::max(head_logits_.size(), count * static_cast<size_t>(forward_.logits_stride())));
  head_max_.resize(std::max(head_max_.size(), count * static_cast<size_t>(forward_.num_groups())));
  run_passes({&work, 1}, nullptr, [&](const std::vector<std::pair<size_t, size_t>>&) {
    forward_.logits(rows, head_logits_.data(), head_max_.data());
  });
  head_rows_ = std::move(rows);
  start_moving();
}

Engine::HeadView CpuEngine::head(size_t work_index) const {
  const int64_t row = work_index < head_rows_.size() ? head_rows_[work_index] : -1;
  if (row < 0)
    throw Error(ErrorKind::usage, "[engine.engine] work " + std::to_string(work_index) + " of the last step has no logits.");
  HeadView view;
  view.logits = head_logits_.data() + row * forward_.logits_stride();
  view.group_max = std::span(head_max_.data() + row * forward_.num_groups(), static_cast<size_t>(forward_.num_groups()));
  view.group_tokens = head_tokens;
  const auto best = std::max_element(view.group_max.begin(), view.group_max.end());
  view.max_logit = *best;
  const int64_t first = (best - view.group_max.begin()) * head_tokens;
  int64_t index;
  float largest;
  kernels_.arg_max(view.logits + first, std::min(head_tokens, config_.vocab_size - first), &largest, &index);
  view.best_token_id = static_cast<int32_t>(first + index);
  return view;
}

}  // namespace

double log_sum_exp(const Engine::HeadView& head, int64_t vocab_size) {
  const Kernels& kernels = choose_kernels();
  double sum = 0;
  for (int64_t first = 0; first < vocab_size; first += head.group_tokens)
    sum += kernels.sum_exp(head.logits + first, head.max_logit, std::min(head.group_tokens, vocab_size - first));
  return head.max_logit + std::log(sum);
}

std::unique_ptr<Engine> Engine::load(const Checkpoint& checkpoint, const EngineOptions& options) {
  if (options.num_threads < 0)
    throw Error(ErrorKind::usage, "[engine.engine] threads is " + std::to_string(options.num_threads) + ", expected at least 1.");
  if (options.num_threads > most_threads)
    throw Error(ErrorKind::usage, "[engine.engine] threads is " + std::to_string(options.num_threads) + ", expected at most " +
                                      std::to_string(most_threads) + ".");
  choose_kernels();  // a wrong GEMCUT_ISA shows before anything is read
  auto pool = std::make_unique<ThreadPool>(options.num_threads ? options.num_threads : usable_cores());
  std::vector<WeightPlace> places = plan_weights(checkpoint);
  const int64_t bytes = region_bytes(places);
  check_memory(bytes + Adapter::bytes_of(options.adapter), "the model");
  Adapter adapter(checkpoint.config(), options.adapter);
  LayoutFolder folder;
  folder.path = options.layout_folder;
  if (folder.path.empty() && bytes >= min_layout_bytes) folder.path = default_layout_folder();
  if (!options.use_layout_cache) folder.path.clear();
  folder.max_bytes = options.layout_max_bytes ? options.layout_max_bytes : default_layout_bytes;
  if (!options.layout_max_bytes) folder.max_share = default_layout_share;
  const std::string fingerprint = folder.path.empty() ? "" : checkpoint.fingerprint();
  std::shared_ptr<const std::byte> region = map_layout(folder, fingerprint, places);
  const bool kept = region != nullptr;
  if (!kept) {
    const std::shared_ptr<std::byte> packed = allocate_region(bytes);
    pack_weights(checkpoint, places, *pool, packed.get());
    checkpoint.release_pages();
    if (!folder.path.empty()) {
      const std::string problem = write_layout(folder, fingerprint, places, packed.get());
      if (!problem.empty() && options.warn) options.warn("layout not kept: " + problem);
    }
    region = packed;
  }
  return std::make_unique<CpuEngine>(checkpoint.config(), std::move(places), std::move(region), kept, std::move(pool),
                                     options.cache_type, std::move(adapter));
}

}  // namespace gemcut
