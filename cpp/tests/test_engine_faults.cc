// What an engine is asked that it cannot do: a named error, and everything as it was before.
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "engine/machine.h"
#include "engine/sequence.h"
#include "formats/error.h"
#include "tests/files.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

const std::vector<TensorType> types = {TensorType::q8_0, TensorType::q5_0};

ErrorKind kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.kind();
  }
  testing::fail(__FILE__, __LINE__, "nothing was thrown");
}

}  // namespace

TEST(engine_refuses_sequences_that_the_model_or_the_machine_cannot_have) {
  Config config = family_config("gemma");
  const TinyCheckpoint checkpoint(config, types);
  const auto engine = tiny_engine(checkpoint);
  CHECK_THROWS(engine->new_sequence(4097), "[engine.engine] 4097 tokens were asked for, but the model's context is 4096 tokens.");
  CHECK(kind_of([&] { engine->new_sequence(4097); }) == ErrorKind::context_length);
  CHECK(kind_of([&] { engine->sequence_bytes(4097); }) == ErrorKind::context_length);
  CHECK_THROWS(engine->new_sequence(0), "[engine.engine] max_tokens is 0, expected at least 1.");
  CHECK(kind_of([&] { engine->new_sequence(-1); }) == ErrorKind::usage);
  CHECK_EQUAL(engine->sequence_bytes(4096), engine->new_sequence(4096)->num_bytes());

  config.max_position_embeddings = INT64_MAX;
  const TinyCheckpoint endless(config, types);
  const auto large = tiny_engine(endless);
  CHECK_THROWS(large->new_sequence(int64_t{1} << 40), "[engine.engine] a sequence of 1099511627776 tokens needs 131072.00 GiB of memory, but ");
  CHECK(kind_of([&] { large->new_sequence(int64_t{1} << 40); }) == ErrorKind::out_of_memory);
  CHECK(kind_of([&] { large->new_sequence(INT64_MAX); }) == ErrorKind::out_of_memory);
}

TEST(engine_refuses_work_before_anything_changes) {
  const TinyCheckpoint checkpoint(family_config("gemma2"), types);
  const auto engine = tiny_engine(checkpoint, 2);
  const auto tokens = random_tokens(checkpoint.config(), 20, 1);
  const auto one = engine->new_sequence(20), two = engine->new_sequence(20), untouched = engine->new_sequence(20);
  const std::span<const int32_t> all = tokens;
  append(*engine, *one, all.subspan(0, 10));
  append(*engine, *untouched, all.subspan(0, 10));
  const auto refuse = [&](const std::vector<Work>& work, const std::string& part) {
    CHECK_THROWS(engine->forward(work), part);
    CHECK_THROWS(engine->step(work), part);
    CHECK_EQUAL(one->length(), 10);
    CHECK_EQUAL(two->length(), 0);
  };
  refuse({{two.get(), all.subspan(0, 5)}, {one.get(), all.subspan(0, 11)}}, "[engine.engine] a sequence of 21 tokens does not fit the cache of 20.");
  for (const int32_t wrong : {-1, 300, INT32_MAX, INT32_MIN}) {
    const std::vector<int32_t> ids = {1, wrong};
    refuse({{two.get(), all.subspan(0, 5)}, {one.get(), ids}}, "[engine.engine] token_ids: " + std::to_string(wrong) + " is not a token id, expected 0 to 299.");
  }
  refuse({{two.get(), all.subspan(0, 1)}, {one.get(), all.subspan(0, 1)}, {two.get(), all.subspan(0, 1)}},
         "[engine.engine] a sequence stands twice in one pass, expected once.");
  const auto rest = all.subspan(10);
  const auto found = append(*engine, *one, rest), wanted = append(*engine, *untouched, rest);
  check_same_bits("after refusals", found.data(), wanted.data(), 300);
  CHECK(kind_of([&] { append(*engine, *one, all.subspan(0, 1)); }) == ErrorKind::context_length);
}

TEST(engine_takes_work_without_tokens) {
  const TinyCheckpoint checkpoint(family_config("gemma"), types);
  const auto engine = tiny_engine(checkpoint, 2);
  const auto sequence = engine->new_sequence(20);
  CHECK(append(*engine, *sequence, {}).empty());
  CHECK(engine->forward({}).logits.empty());
  engine->step({});
  CHECK_THROWS(engine->head(0), "[engine.engine] work 0 of the last step has no logits.");
  const std::vector<int32_t> tokens = {1, 2};
  const auto other = engine->new_sequence(20);
  const Work work[] = {{sequence.get(), {}}, {other.get(), tokens}};
  engine->step(work);
  CHECK_THROWS(engine->head(0), "[engine.engine] work 0 of the last step has no logits.");
  CHECK_THROWS(engine->head(2), "[engine.engine] work 2 of the last step has no logits.");
  CHECK(std::isfinite(engine->head(1).max_logit));
  CHECK_EQUAL(other->length(), 2);
}

TEST(engine_that_is_cancelled_stops_between_passes_and_goes_on_from_there) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), types);
  const auto engine = tiny_engine(checkpoint, 2);
  const int64_t total = cases(3000, 1500);
  const auto tokens = random_tokens(checkpoint.config(), total, 2);
  const std::span<const int32_t> all = tokens;
  const auto sequence = engine->new_sequence(total), whole = engine->new_sequence(total);
  const Work work{sequence.get(), tokens};
  std::atomic<bool> cancel{true};
  CHECK_THROWS(engine->forward({&work, 1}, {}, &cancel), "[engine.engine] the pass was cancelled.");
  CHECK_EQUAL(sequence->length(), 0);
  CHECK(kind_of([&] { engine->step({&work, 1}, &cancel); }) == ErrorKind::cancelled);
  const auto wanted = append(*engine, *whole, tokens);
  // From another thread, while it runs: it has done whole passes, or all.
  for (int milliseconds = 1; milliseconds <= 16; milliseconds *= 2) {
    cancel = false;
    CHECK(engine->truncate(*sequence, 0));
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      cancel = true;
    });
    try {
      engine->forward({&work, 1}, {}, &cancel);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::cancelled);
    }
    other.join();
    const int64_t done = sequence->length();
    CHECK(done == total || done % gemcut::max_pass_rows == 0);
    if (done == total) continue;
    const auto found = append(*engine, *sequence, all.subspan(static_cast<size_t>(done)));
    check_same_bits("after " + std::to_string(done) + " tokens", found.data(), wanted.data(), 300);
  }
}

TEST(engine_counts_its_threads) {
  const TinyCheckpoint checkpoint(family_config("gemma2"), types);
  const auto tokens = random_tokens(checkpoint.config(), 60, 3);
  std::vector<float> wanted;
  // 0: as many as there are cores; 64 on any machine, with fewer items than threads.
  for (const int threads : {1, 0, 64}) {
    const auto engine = tiny_engine(checkpoint, threads);
    CHECK_EQUAL(engine->num_threads(), threads ? threads : usable_cores());
    const auto sequence = engine->new_sequence(60);
    append(*engine, *sequence, std::span(tokens).subspan(0, 58));
    append(*engine, *sequence, std::span(tokens).subspan(58, 1));
    const auto logits = append(*engine, *sequence, std::span(tokens).subspan(59));
    if (wanted.empty()) wanted = logits;
    check_same_bits(std::to_string(threads) + " threads", logits.data(), wanted.data(), 300);
  }
  CHECK_THROWS(tiny_engine(checkpoint, -1), "[engine.engine] threads is -1, expected at least 1.");
  CHECK(kind_of([&] { tiny_engine(checkpoint, -5); }) == ErrorKind::usage);
  CHECK_THROWS(tiny_engine(checkpoint, 4097), "[engine.engine] threads is 4097, expected at most 4096.");
}

TEST(engine_names_an_instruction_set_it_cannot_run) {
  const TinyCheckpoint checkpoint(family_config("gemma"), types);
  const ChosenIsa chosen("avx9000");
  CHECK_THROWS(tiny_engine(checkpoint), "[kernels.dispatch] GEMCUT_ISA is \"avx9000\", expected one that this processor runs: ");
  CHECK_THROWS(tiny_engine(checkpoint), ". Unset it to take the last.");
  CHECK(kind_of([&] { tiny_engine(checkpoint); }) == ErrorKind::usage);
  const ChosenIsa empty("");
  CHECK_EQUAL(tiny_engine(checkpoint)->isa(), runnable_tables().back()->name);
}

TEST(engine_of_a_file_that_shrinks_while_it_is_packed_is_an_error) {
  TinyCheckpoint checkpoint(family_config("gemma"), types);
  checkpoint.shrink();
  for (const int threads : {1, 3}) CHECK_THROWS(tiny_engine(checkpoint, threads), "the file has shrunk");
}

TEST(engine_forks_no_sequence_into_too_little_room) {
  const TinyCheckpoint checkpoint(family_config("gemma"), types);
  const auto engine = tiny_engine(checkpoint);
  const auto sequence = engine->new_sequence(50);
  append(*engine, *sequence, random_tokens(checkpoint.config(), 40, 4));
  CHECK_THROWS(engine->fork(*sequence, 39), "[engine.engine] a copy of a sequence of 40 tokens was asked for with room for 39.");
  CHECK(kind_of([&] { engine->fork(*sequence, 5000); }) == ErrorKind::context_length);
  for (const int64_t length : {-1, 41})
    CHECK_THROWS(engine->fork(*sequence, 50, length), "[engine.engine] the first " + std::to_string(length) +
                                                          " tokens of a sequence of 40 were asked for, which it cannot go back to.");
  const auto copy = engine->fork(*sequence, 40);
  CHECK(kind_of([&] { append(*engine, *copy, {{1}}); }) == ErrorKind::context_length);
}

TEST(engine_says_once_why_a_layout_was_not_kept) {
  const TemporaryFolder folder;
  const TinyCheckpoint checkpoint(family_config("gemma"), types);
  EngineOptions options;
  options.num_threads = 1;
  options.layout_folder = folder.write("file", "x") + "/inside";
  std::vector<std::string> warnings;
  options.warn = [&](const std::string& warning) { warnings.push_back(warning); };
  const auto engine = Engine::load(checkpoint, options);
  CHECK(!engine->from_layout_file());
  CHECK_EQUAL(warnings.size(), 1u);
  CHECK(warnings[0].find("layout not kept: " + options.layout_folder) == 0);
  options.warn = nullptr;
  CHECK(!Engine::load(checkpoint, options)->from_layout_file());
}

TEST(engine_on_a_kept_layout_that_is_cut_short_says_so_and_keeps_its_sequences) {
  const TemporaryFolder folder;
  const TinyCheckpoint checkpoint(family_config("gemma3"), types);
  EngineOptions options;
  options.layout_folder = folder.path() + "layouts";
  const auto tokens = random_tokens(checkpoint.config(), 30, 5);
  for (const int threads : {1, 3}) {
    options.num_threads = threads;
    const auto wanted = append(*Engine::load(checkpoint, options), *tiny_engine(checkpoint)->new_sequence(30), tokens);
    const auto engine = Engine::load(checkpoint, options);
    CHECK(engine->from_layout_file());
    const auto sequence = engine->new_sequence(30);
    for (const auto& file : std::filesystem::directory_iterator(options.layout_folder)) std::filesystem::resize_file(file, 8192);
    const Work work{sequence.get(), tokens};
    for (int repeat = 0; repeat < 2; ++repeat) {
      CHECK_THROWS(engine->forward({&work, 1}),
                   "[engine.engine] the model's kept layout was cut short while it was in use, expected all of its bytes. Load");
      CHECK_THROWS(engine->step({&work, 1}), "was cut short");
      CHECK_THROWS(engine->step_all({sequence.get(), tokens}), "was cut short");
      CHECK_THROWS(engine->head(0), "work 0 of the last step has no logits");
      CHECK_EQUAL(sequence->length(), 0);
    }
    // The next one packs the weights anew.
    const auto again = Engine::load(checkpoint, options);
    CHECK(!again->from_layout_file());
    check_same_bits("anew", append(*again, *again->new_sequence(30), tokens).data(), wanted.data(), 300);
  }
}

TEST(engine_sequences_outlive_nothing_but_their_memory) {
  const TinyCheckpoint checkpoint(family_config("gemma"), types);
  std::unique_ptr<Sequence> sequence;
  {
    const auto engine = tiny_engine(checkpoint);
    sequence = engine->new_sequence(30);
    append(*engine, *sequence, {{1, 2, 3}});
  }
  CHECK_EQUAL(sequence->length(), 3);  // and its end, after the engine's, is no crash
}

TEST(engine_counts_its_weights) {
  const Config config = family_config("llama");
  const TinyCheckpoint checkpoint(config, {TensorType::q5_0});
  const auto engine = tiny_engine(checkpoint);
  CHECK_EQUAL(engine->dtype(), "q5_0");
  // Two layers of q (64, 64), k and v (32, 64), o (64, 64), and three of (96, 64).
  CHECK_EQUAL(engine->multiply_adds_per_token(), 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64));
  // 5 bits a weight; 64 columns are half a chunk, which has room for the scales of 4 blocks.
  const int64_t group = group_geometry(Format::q5, 64).bytes;
  CHECK_EQUAL(group, 128 + 2 * 320);
  const int64_t layer = (4 + 2 + 2 + 4 + 6 + 6) * group + 4 * group_geometry(Format::q5, 96).bytes;
  CHECK_EQUAL(engine->weight_bytes_per_token(), 2 * layer + 19 * group);
  CHECK(engine->weight_bytes() > engine->weight_bytes_per_token() + 19 * group);
  const TinyCheckpoint bytes(config, {TensorType::q8_0}), floats(config, {TensorType::bf16});
  CHECK_EQUAL(tiny_engine(bytes)->dtype(), "q8_0");
  CHECK_EQUAL(tiny_engine(floats)->dtype(), "bfloat16");
}
