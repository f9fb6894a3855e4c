// An adapter beside the weights: what it adds, that results stay independent of threads, chunks and company, and that
// adapters which do not fit are refused.
#include "engine/adapter.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "formats/error.h"
#include "tests/files.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

// Random factors of some matrices of a family's tiny model, with the memory that they lie in.
struct TinyAdapter {
  // Ranks beyond a group of 16 rows, below one, and beyond a block of 32 columns.
  TinyAdapter(const Config& config, const std::vector<std::pair<std::string, int64_t>>& ranks, uint64_t seed = 1) {
    Random random(seed);
    const int64_t queries = config.num_attention_heads * config.head_dim, keys = config.num_key_value_heads * config.head_dim;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
      for (const auto& [name, rank] : ranks) {
        AdapterMatrix matrix;
        matrix.name = "model.layers." + std::to_string(layer) + "." + name + ".weight";
        matrix.rank = rank;
        const bool is_wide = name == "mlp.gate_proj" || name == "mlp.up_proj";
        const bool is_key = name == "self_attn.k_proj" || name == "self_attn.v_proj";
        matrix.rows = is_wide ? config.intermediate_size : is_key ? keys : name == "self_attn.q_proj" ? queries : config.hidden_size;
        matrix.columns = name == "mlp.down_proj" ? config.intermediate_size
                         : name == "self_attn.o_proj" ? queries
                                                      : config.hidden_size;
        matrix.scale = 0.375f;
        a.push_back(random.floats(rank * matrix.columns, 0.2f));
        b.push_back(random.floats(matrix.rows * rank, 0.2f));
        matrices.push_back(matrix);
      }
    for (size_t i = 0; i < matrices.size(); ++i) {
      matrices[i].a = a[i].data();
      matrices[i].b = b[i].data();
    }
  }

  std::vector<std::vector<float>> a, b;
  std::vector<AdapterMatrix> matrices;
};

const std::vector<std::pair<std::string, int64_t>> every_matrix = {
    {"self_attn.q_proj", 5}, {"self_attn.k_proj", 1}, {"self_attn.v_proj", 17}, {"self_attn.o_proj", 40},
    {"mlp.gate_proj", 8},    {"mlp.up_proj", 33},     {"mlp.down_proj", 16}};

std::unique_ptr<Engine> adapted_engine(const Checkpoint& checkpoint, const std::vector<AdapterMatrix>& matrices,
                                       int num_threads = 1) {
  EngineOptions options;
  options.num_threads = num_threads;
  options.cache_type = CacheType::f32;
  options.use_layout_cache = false;
  options.adapter = matrices;
  return Engine::load(checkpoint, options);
}

std::vector<float> logits_of(Engine& engine, const std::vector<int32_t>& tokens, size_t first_piece) {
  const auto sequence = engine.new_sequence(static_cast<int64_t>(tokens.size()));
  std::vector<float> logits = append(engine, *sequence, std::span(tokens).subspan(0, first_piece), Rows::all);
  for (size_t done = first_piece; done < tokens.size(); ++done) {
    const auto row = append(engine, *sequence, std::span(tokens).subspan(done, 1), Rows::all);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

}  // namespace

TEST(adapter_gives_what_the_merged_weights_give) {
  for (const std::string& family : families()) {
    const Config config = family_config(family);
    const TinyAdapter adapter(config, every_matrix);
    const TinyCheckpoint checkpoint(config, {TensorType::f32});
    TinyCheckpoint merged(config, {TensorType::f32});
    for (const AdapterMatrix& matrix : adapter.matrices) merged.add_update(matrix);
    const auto tokens = random_tokens(config, 30, 1);
    const auto found = logits_of(*adapted_engine(checkpoint, adapter.matrices), tokens, 20);
    const auto wanted = logits_of(*adapted_engine(merged, {}), tokens, 20);
    const auto plain = logits_of(*adapted_engine(checkpoint, {}), tokens, 20);
    double effect = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      check_close(family + ", logit " + std::to_string(i), found[i], wanted[i], 2e-3);
      effect = std::max(effect, static_cast<double>(std::abs(found[i] - plain[i])));
    }
    CHECK(effect > 0.5);
  }
}

TEST(adapter_results_do_not_depend_on_threads_chunks_or_company) {
  const std::vector<TensorType> types = {TensorType::q8_0, TensorType::q4_0, TensorType::bf16, TensorType::f16};
  for (const std::string& family : families()) {
    const Config config = family_config(family);
    const TinyCheckpoint checkpoint(config, types);
    const TinyAdapter adapter(config, every_matrix);
    const auto tokens = random_tokens(config, 150, 2), others = random_tokens(config, 70, 3);
    const auto one = adapted_engine(checkpoint, adapter.matrices);
    const auto wanted = logits_of(*one, tokens, tokens.size());
    const auto check = [&](const std::string& where, const std::vector<float>& found) {
      CHECK_EQUAL(found.size(), wanted.size());
      check_same_bits(family + ", " + where, found.data(), wanted.data(), static_cast<int64_t>(wanted.size()));
    };
    check("pieces", logits_of(*one, tokens, 131));
    const auto three = adapted_engine(checkpoint, adapter.matrices, 3);
    check("threads", logits_of(*three, tokens, tokens.size()));
    const auto sequence = three->new_sequence(150), other = three->new_sequence(70);
    const std::vector<Work> work = {{other.get(), others}, {sequence.get(), tokens}};
    PassOptions options;
    options.rows = Rows::all;
    const auto both = three->forward(work, options).logits;
    check("company", {both.begin() + 70 * config.vocab_size, both.end()});
  }
}

TEST(adapter_of_some_matrices_leaves_the_others_alone) {
  const Config config = family_config("gemma3");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto tokens = random_tokens(config, 20, 4);
  const auto plain = logits_of(*adapted_engine(checkpoint, {}), tokens, 20);
  for (const auto& [name, rank] : every_matrix) {
    TinyAdapter adapter(config, {{name, rank}});
    const auto changed = logits_of(*adapted_engine(checkpoint, adapter.matrices, 2), tokens, 20);
    CHECK(changed != plain);
    for (AdapterMatrix& matrix : adapter.matrices) matrix.scale = 0;
    const auto same = logits_of(*adapted_engine(checkpoint, adapter.matrices, 2), tokens, 20);
    check_same_bits(name, same.data(), plain.data(), static_cast<int64_t>(plain.size()));
  }
}

TEST(adapter_is_counted) {
  const Config config = family_config("gemma");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const TinyAdapter adapter(config, {{"mlp.down_proj", 20}});
  const auto plain = adapted_engine(checkpoint, {}), adapted = adapted_engine(checkpoint, adapter.matrices);
  const int64_t bytes = Adapter::bytes_of(adapter.matrices);
  // Two layers; A in 2 groups of 16 rows, B in 4.
  CHECK_EQUAL(bytes, 2 * 4 * (32 * config.intermediate_size + config.hidden_size * 20));
  CHECK_EQUAL(adapted->weight_bytes() - plain->weight_bytes(), bytes);
  CHECK_EQUAL(adapted->weight_bytes_per_token() - plain->weight_bytes_per_token(), bytes);
  CHECK_EQUAL(adapted->multiply_adds_per_token() - plain->multiply_adds_per_token(),
              2 * 20 * (config.intermediate_size + config.hidden_size));
}

TEST(adapter_belongs_to_the_model_that_saved_a_sequence) {
  const Config config = family_config("gemma");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const TinyAdapter adapter(config, {{"mlp.down_proj", 4}}), other(config, {{"mlp.down_proj", 4}}, 2);
  const TemporaryFolder folder;
  const auto adapted = adapted_engine(checkpoint, adapter.matrices);
  const auto tokens = random_tokens(config, 10, 5);
  const auto sequence = adapted->new_sequence(10);
  append(*adapted, *sequence, tokens);
  const std::string path = folder.path() + "state";
  adapted->save_sequence(*sequence, path);
  CHECK_EQUAL(adapted_engine(checkpoint, adapter.matrices)->load_sequence(path, 20)->length(), 10);
  CHECK_THROWS(adapted_engine(checkpoint, other.matrices)->load_sequence(path, 20), "another model");
  CHECK_THROWS(adapted_engine(checkpoint, {})->load_sequence(path, 20), "another model");
}

TEST(adapter_that_does_not_fit_is_refused) {
  const Config config = family_config("gemma");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto refused = [&](auto&& change, const std::string& part) {
    TinyAdapter adapter(config, {{"self_attn.q_proj", 4}});
    change(adapter.matrices);
    CHECK_THROWS(adapted_engine(checkpoint, adapter.matrices), part);
  };
  refused([](auto& all) { all[0].name = "model.layers.2.self_attn.q_proj.weight"; },
          "\"model.layers.2.self_attn.q_proj.weight\" is no matrix of this model's 2 layers");
  refused([](auto& all) { all[0].name = "lm_head.weight"; }, "\"lm_head.weight\" is no matrix");
  refused([](auto& all) { all[1].name = all[0].name; }, "is given twice, expected once");
  refused([](auto& all) { all[0].rows = 32; }, "is (32, 64) of rank 4, expected (64, 64) of rank 1 or more");
  refused([](auto& all) { all[0].columns = 32; }, "is (64, 32) of rank 4, expected (64, 64)");
  refused([](auto& all) { all[0].rank = 0; }, "is (64, 64) of rank 0, expected");
}
