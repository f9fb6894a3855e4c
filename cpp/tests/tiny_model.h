// Tiny random models of every family, in memory, in any mixture of stored types.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "formats/checkpoint.h"
#include "tests/kernel_cases.h"

namespace gemcut::testing {

// The shrunk configuration of "gemma", "gemma2", "gemma3", "llama" or "mistral": D 64, F 96, 6 layers or fewer.
Config family_config(const std::string& family);
const std::vector<std::string>& families();  // all of these, or the two with most parts between them

// A checkpoint that lies in memory: the matrices take the types in turn, the weights are those of the seed.
class TinyCheckpoint : public Checkpoint {
 public:
  TinyCheckpoint(const Config& config, const std::vector<TensorType>& types, uint64_t seed = 1);

  const std::string& path() const override { return path_; }
  const Config& config() const override { return config_; }
  const std::map<std::string, Tensor>& tensors() const override { return tensors_; }
  const VocabularySource& vocabulary() const override { return vocabulary_; }
  const std::vector<std::pair<std::string, std::string>>& unused_tensors() const override { return nothing_; }
  const std::vector<std::pair<std::string, std::string>>& metadata() const override { return nothing_; }
  std::string fingerprint() const override { return "0123456789abcdef0123456789abcdef"; }
  void copy(const Tensor& tensor, size_t byte_offset, size_t num_bytes, std::byte* out) const override;
  void check_unchanged() const override;
  void release_pages() const override {}

  // Stores queries and keys as Llama's GGUF files do: the two halves of a head that turn together as adjacent rows.
  void permute_queries_and_keys();
  // Adds what an adapter adds to a matrix that is stored in float32.
  void add_update(const AdapterMatrix& update);
  // From then on the files have shrunk: copy() throws.
  void shrink() { shrunk_ = true; }

 private:
  void add(const std::string& name, int64_t rows, int64_t columns, TensorType type, Random& random);

  const std::string path_ = "tiny";
  Config config_;
  std::map<std::string, Tensor> tensors_;
  std::list<std::vector<std::byte>> data_;
  VocabularySource vocabulary_;
  std::vector<std::pair<std::string, std::string>> nothing_;
  bool shrunk_ = false;
};

// An engine on such a model, without a layout file.
std::unique_ptr<Engine> tiny_engine(const Checkpoint& checkpoint, int num_threads = 1, CacheType cache_type = CacheType::bf16);

// `count` token ids of the model.
std::vector<int32_t> random_tokens(const Config& config, int64_t count, uint64_t seed);

// Appends tokens to a sequence in one pass; logits of the last (V,) or of all (rows, V).
std::vector<float> append(Engine& engine, Sequence& sequence, std::span<const int32_t> token_ids, Rows rows = Rows::last);

// Sets GEMCUT_ISA for as long as it lives.
class ChosenIsa {
 public:
  explicit ChosenIsa(const std::string& name);
  ~ChosenIsa();
  ChosenIsa(const ChosenIsa&) = delete;
  ChosenIsa& operator=(const ChosenIsa&) = delete;

 private:
  std::optional<std::string> old_;
};

}  // namespace gemcut::testing
