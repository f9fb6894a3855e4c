// What an engine computes does not depend, to the last bit, on threads, chunks, company or the place of its memory.
#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/sampler.h"
#include "tests/files.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

const std::vector<TensorType> block_types = {TensorType::q8_0, TensorType::q5_0, TensorType::q4_0,   TensorType::bf16,
                                             TensorType::q4_1, TensorType::q5_1, TensorType::iq4_nl, TensorType::f16,
                                             TensorType::f32};
const std::vector<TensorType> wide_types = {TensorType::q4_k, TensorType::q6_k, TensorType::q5_k,
                                            TensorType::q3_k, TensorType::q2_k, TensorType::iq4_xs};

// A model wide enough for types of 256 columns.
Config wide_config() {
  Config config = family_config("gemma2");
  config.hidden_size = config.intermediate_size = 256;
  config.head_dim = 64;
  config.query_pre_attn_scalar = 64;
  return config;
}

void check_same(const std::string& where, const std::vector<float>& found, const std::vector<float>& wanted) {
  CHECK_EQUAL(found.size(), wanted.size());
  CHECK(!found.empty());
  for (const float value : wanted) CHECK(std::isfinite(value));
  check_same_bits(where, found.data(), wanted.data(), static_cast<int64_t>(found.size()));
}

const std::vector<std::string>& sliding_families() {
  static const auto names = cases<std::vector<std::string>>({"gemma2", "gemma3", "mistral"}, {"mistral"});
  return names;
}

// Tokens one piece after the other; the logits of all rows together.
std::vector<float> append_in_pieces(Engine& engine, Sequence& sequence, const std::vector<int32_t>& tokens,
                                    const std::vector<size_t>& pieces) {
  std::vector<float> logits;
  size_t done = 0;
  for (size_t piece = 0; done < tokens.size(); ++piece) {
    const size_t count = std::min(pieces[piece % pieces.size()], tokens.size() - done);
    const auto some = append(engine, sequence, std::span(tokens).subspan(done, count), Rows::all);
    logits.insert(logits.end(), some.begin(), some.end());
    done += count;
  }
  return logits;
}

std::vector<float> whole_logits(Engine& engine, const std::vector<int32_t>& tokens) {
  const auto sequence = engine.new_sequence(static_cast<int64_t>(tokens.size()));
  return append(engine, *sequence, tokens, Rows::all);
}

}  // namespace

TEST(engine_logits_do_not_depend_on_the_number_of_threads) {
  for (const std::string& family : families()) {
    const TinyCheckpoint checkpoint(family_config(family), block_types);
    const auto tokens = random_tokens(checkpoint.config(), 70, 1);
    const auto wanted = whole_logits(*tiny_engine(checkpoint, 1), tokens);
    for (const int threads : {2, 3, 5}) {
      const auto engine = tiny_engine(checkpoint, threads);
      CHECK_EQUAL(engine->num_threads(), threads);
      check_same(family + " on " + std::to_string(threads) + " threads", whole_logits(*engine, tokens), wanted);
      const auto sequence = engine->new_sequence(70);
      check_same(family + " in pieces", append_in_pieces(*engine, *sequence, tokens, {1, 1, 2, 30, 9}), wanted);
    }
  }
}

TEST(engine_logits_do_not_depend_on_the_chunks_of_the_prefill) {
  for (const std::string& family : families())
    for (const CacheType cache : {CacheType::bf16, CacheType::f32}) {
      const TinyCheckpoint checkpoint(family_config(family), block_types);
      const auto engine = tiny_engine(checkpoint, 2, cache);
      const auto tokens = random_tokens(checkpoint.config(), 140, 2);
      const auto wanted = whole_logits(*engine, tokens);
      for (const std::vector<size_t>& pieces : std::vector<std::vector<size_t>>{{1}, {7, 33}, {64}, {139}, {9, 8, 1, 100}}) {
        const auto sequence = engine->new_sequence(140);
        check_same(family + " in pieces of " + std::to_string(pieces[0]), append_in_pieces(*engine, *sequence, tokens, pieces), wanted);
        CHECK(sequence->token_ids() == tokens);
      }
    }
}

TEST(engine_logits_of_super_block_types_do_not_depend_on_threads_or_chunks) {
  const TinyCheckpoint checkpoint(wide_config(), wide_types);
  const auto tokens = random_tokens(checkpoint.config(), 40, 3);
  const auto wanted = whole_logits(*tiny_engine(checkpoint, 1), tokens);
  const auto engine = tiny_engine(checkpoint, 3);
  check_same("3 threads", whole_logits(*engine, tokens), wanted);
  const auto sequence = engine->new_sequence(40);
  check_same("pieces", append_in_pieces(*engine, *sequence, tokens, {1, 10, 2}), wanted);
}

TEST(engine_logits_do_not_depend_on_what_shares_the_pass) {
  for (const std::string& family : families()) {
    const TinyCheckpoint checkpoint(family_config(family), block_types);
    const auto engine = tiny_engine(checkpoint, 2);
    constexpr size_t num_sequences = 5;
    const size_t lengths[num_sequences] = {1, 3, 20, 65, 130};
    std::vector<int32_t> tokens[num_sequences];
    std::vector<float> wanted[num_sequences];
    for (size_t i = 0; i < num_sequences; ++i) {
      tokens[i] = random_tokens(checkpoint.config(), static_cast<int64_t>(lengths[i]) + 3, 10 + i);
      wanted[i] = whole_logits(*engine, tokens[i]);
    }
    for (int order = 0; order < 3; ++order) {
      std::unique_ptr<Sequence> sequences[num_sequences];
      for (size_t i = 0; i < num_sequences; ++i) sequences[i] = engine->new_sequence(200);
      // All but their last three tokens in one pass, then three passes of one token each.
      for (size_t part = 0; part < 4; ++part) {
        std::vector<Work> work;
        std::vector<size_t> owners;
        for (size_t k = 0; k < num_sequences; ++k) {
          const size_t i = order == 0 ? k : order == 1 ? num_sequences - 1 - k : (k * 2) % num_sequences;
          const size_t first = part == 0 ? 0 : lengths[i] + part - 1;
          work.push_back({sequences[i].get(), std::span(tokens[i]).subspan(first, part == 0 ? lengths[i] : 1)});
          owners.push_back(i);
        }
        PassOptions options;
        options.rows = Rows::all;
        const Results results = engine->forward(work, options);
        const float* row = results.logits.data();
        for (size_t k = 0; k < work.size(); ++k) {
          const size_t V = static_cast<size_t>(checkpoint.config().vocab_size), first = part == 0 ? 0 : lengths[owners[k]] + part - 1;
          const size_t count = work[k].token_ids.size() * V;
          check_same_bits(family + ", sequence " + std::to_string(owners[k]), row, wanted[owners[k]].data() + first * V, static_cast<int64_t>(count));
          row += count;
        }
      }
    }
  }
}

TEST(engine_logits_of_rings_that_wrapped_do_not_depend_on_the_chunks) {
  for (const std::string& family : sliding_families()) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0, TensorType::bf16});
    const auto engine = tiny_engine(checkpoint, 2);
    // Rings of 320 slots: the window of 8 and one pass of 256, in whole blocks of 64.
    const auto tokens = random_tokens(checkpoint.config(), 1300, 4);
    const auto wanted = whole_logits(*engine, tokens);
    for (const std::vector<size_t>& pieces : std::vector<std::vector<size_t>>{{100}, {255, 1, 257}, {1000, 17}}) {
      const auto sequence = engine->new_sequence(1300);
      check_same(family + " in pieces of " + std::to_string(pieces[0]), append_in_pieces(*engine, *sequence, tokens, pieces), wanted);
    }
  }
}

TEST(engine_window_hides_what_lies_before_it) {
  // With two sliding layers a token sees 2 * (8 - 1) tokens back: what lies before may be anything.
  const TinyCheckpoint checkpoint(family_config("mistral"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 700, 5);
  auto other = tokens;
  for (size_t i = 0; i < 685; ++i) other[i] = (tokens[i] + 1) % 300;
  const auto one = engine->new_sequence(700), two = engine->new_sequence(700);
  const auto wanted = append(*engine, *one, tokens);
  check_same("last logits", append(*engine, *two, other), wanted);
  // One token nearer is seen.
  other = tokens;
  other[685] = (tokens[685] + 1) % 300;
  const auto three = engine->new_sequence(700);
  CHECK(append(*engine, *three, other) != wanted);
}

TEST(engine_fork_goes_its_own_way) {
  for (const std::string& family : families()) {
    const TinyCheckpoint checkpoint(family_config(family), block_types);
    const auto engine = tiny_engine(checkpoint, 2);
    for (const int64_t length : cases<std::vector<int64_t>>({5, 64, 100, 1200}, {5, 650})) {
      const auto tokens = random_tokens(checkpoint.config(), length + 20, 6);
      const std::span<const int32_t> all = tokens;
      const auto first = all.subspan(0, static_cast<size_t>(length)), rest = all.subspan(static_cast<size_t>(length));
      const auto other = random_tokens(checkpoint.config(), 20, 7);
      const auto alone = engine->new_sequence(length + 20);
      append(*engine, *alone, first);
      const auto wanted = append(*engine, *alone, rest, Rows::all);
      const auto sequence = engine->new_sequence(length + 400);
      append(*engine, *sequence, first);
      for (const int64_t room : {length + 20, length + 700}) {
        const auto copy = engine->fork(*sequence, room);
        CHECK_EQUAL(copy->length(), length);
        CHECK_EQUAL(copy->capacity(), room);
        const auto third = engine->fork(*copy, length + 20);
        append(*engine, *copy, other);
        check_same(family + ", a fork's fork", append(*engine, *third, rest, Rows::all), wanted);
      }
      check_same(family + ", what was forked", append(*engine, *sequence, rest, Rows::all), wanted);
    }
  }
}

TEST(engine_truncate_and_append_again_gives_what_a_new_sequence_gives) {
  for (const std::string& family : families()) {
    const TinyCheckpoint checkpoint(family_config(family), block_types);
    const auto engine = tiny_engine(checkpoint, 2);
    const auto tokens = random_tokens(checkpoint.config(), 1260, 8), other = random_tokens(checkpoint.config(), 300, 9);
    using Pairs = std::vector<std::pair<int64_t, int64_t>>;
    const auto all = Pairs{{100, 0}, {100, 1}, {100, 63}, {100, 100}, {1200, 900}, {1250, 1190}};
    for (const auto& [length, kept] : cases(all, Pairs{{100, 0}, {100, 63}, {1250, 1190}})) {
      const auto first = std::span(tokens).subspan(0, static_cast<size_t>(length));
      const auto sequence = engine->new_sequence(1600), fresh = engine->new_sequence(1600);
      append(*engine, *sequence, first);
      CHECK(engine->truncate(*sequence, kept));
      CHECK_EQUAL(sequence->length(), kept);
      if (kept) append(*engine, *fresh, first.subspan(0, static_cast<size_t>(kept)));
      check_same(family + ", truncated to " + std::to_string(kept), append(*engine, *sequence, other, Rows::all),
                 append(*engine, *fresh, other, Rows::all));
      // Once more: what stands behind the cut is another text by now.
      CHECK(engine->truncate(*sequence, kept) && engine->truncate(*fresh, kept));
      const auto again = std::span(tokens).subspan(0, 20);
      check_same(family + ", truncated again", append(*engine, *sequence, again, Rows::all), append(*engine, *fresh, again, Rows::all));
    }
  }
}

TEST(engine_truncates_no_further_than_its_rings_reach) {
  for (const std::string& family : sliding_families()) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0});
    const auto engine = tiny_engine(checkpoint);
    const auto tokens = random_tokens(checkpoint.config(), 1200, 8);
    const auto sequence = engine->new_sequence(1200);
    append(*engine, *sequence, tokens);
    // 1200 - 320 = 880 is the oldest position of the rings; a query at 887 looks back to it.
    CHECK(!engine->truncate(*sequence, 886));
    CHECK(!engine->truncate(*sequence, 1));
    CHECK(!engine->truncate(*sequence, -1));
    CHECK(!engine->truncate(*sequence, 1201));
    CHECK_EQUAL(sequence->length(), 1200);
    CHECK(engine->truncate(*sequence, 887));
    const auto last = std::span(tokens).subspan(887, 40);
    const auto fresh = engine->new_sequence(1200);
    append(*engine, *fresh, std::span(tokens).subspan(0, 887));
    check_same(family, append(*engine, *sequence, last, Rows::all), append(*engine, *fresh, last, Rows::all));
    // Nothing is needed of a text that starts anew.
    CHECK(engine->truncate(*sequence, 0));
    check_same(family, append(*engine, *sequence, last, Rows::all), append(*engine, *engine->new_sequence(40), last, Rows::all));
    // And what the old text had lost is there of the new one.
    CHECK(engine->truncate(*sequence, 30));
  }
}

TEST(engine_fork_into_less_room_of_a_sequence_that_was_longer) {
  // The ring of the original has wrapped, that of the copy has a slot for every position.
  for (const std::string& family : sliding_families()) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0});
    const auto engine = tiny_engine(checkpoint);
    const auto tokens = random_tokens(checkpoint.config(), 900, 8);
    const auto sequence = engine->new_sequence(900), fresh = engine->new_sequence(900);
    append(*engine, *sequence, tokens);  // positions below 580 are lost
    CHECK(engine->truncate(*sequence, 640));
    append(*engine, *fresh, std::span(tokens).subspan(0, 640));
    const auto last = std::span(tokens).subspan(640, 40);
    const auto copy = engine->fork(*sequence, 680);
    check_same(family, append(*engine, *copy, last, Rows::all), append(*engine, *fresh, last, Rows::all));
    CHECK(!engine->truncate(*copy, 586));
    CHECK(engine->truncate(*copy, 587));
    CHECK(engine->truncate(*fresh, 587));
    const auto middle = std::span(tokens).subspan(587, 40);
    check_same(family, append(*engine, *copy, middle, Rows::all), append(*engine, *fresh, middle, Rows::all));
  }
}

TEST(engine_of_every_instruction_set_agrees_with_itself_and_nearly_with_the_others) {
  for (const std::string& family : families()) {
    // Float types: the difference is rounding alone.
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::f32});
    const TinyCheckpoint quantised(family_config(family), block_types);
    const auto tokens = random_tokens(checkpoint.config(), 70, 10);
    std::vector<float> first;
    for (const Kernels* kernels : runnable_tables()) {
      const ChosenIsa chosen(kernels->name);
      const auto engine = tiny_engine(checkpoint, 2, CacheType::f32);
      CHECK_EQUAL(engine->isa(), kernels->name);
      const auto logits = whole_logits(*engine, tokens);
      if (first.empty()) first = logits;
      const float largest = std::abs(*std::max_element(logits.begin(), logits.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
      for (size_t i = 0; i < logits.size(); ++i) check_close(family + " on " + kernels->name, logits[i], first[i], 2e-4 * largest);
      const auto packed = tiny_engine(quantised, 3);
      const auto sequence = packed->new_sequence(70);
      check_same(family + " on " + kernels->name, append_in_pieces(*packed, *sequence, tokens, {1, 30, 7}), whole_logits(*packed, tokens));
    }
  }
}

TEST(engine_rows_of_permuted_queries_and_keys_are_put_in_order) {
  const Config config = family_config("llama");
  const TinyCheckpoint plain(config, block_types);
  TinyCheckpoint permuted(config, block_types);
  permuted.permute_queries_and_keys();
  const auto tokens = random_tokens(config, 30, 11);
  check_same("llama", whole_logits(*tiny_engine(permuted), tokens), whole_logits(*tiny_engine(plain), tokens));
}

TEST(engine_step_gives_what_forward_gives) {
  Config config = family_config("gemma2");
  config.vocab_size = 2500;  // more than two groups of the head
  const TinyCheckpoint checkpoint(config, block_types);
  const auto engine = tiny_engine(checkpoint, 2);
  const auto tokens = random_tokens(config, 600, 12);
  const std::span<const int32_t> all = tokens;
  const auto wanted = whole_logits(*engine, tokens);
  std::unique_ptr<Sequence> sequences[4];
  for (auto& sequence : sequences) sequence = engine->new_sequence(600);
  const Work work[4] = {{sequences[0].get(), all.subspan(0, 9)},
                        {sequences[1].get(), {}},
                        {sequences[2].get(), all},
                        {sequences[3].get(), all.subspan(0, 1)}};
  engine->step(work);
  CHECK_EQUAL(sequences[1]->length(), 0);
  for (const size_t i : {size_t{0}, size_t{2}, size_t{3}}) {
    const Engine::HeadView head = engine->head(i);
    const float* row = wanted.data() + (work[i].token_ids.size() - 1) * 2500;
    check_same_bits("head " + std::to_string(i), head.logits, row, 2500);
    CHECK_EQUAL(head.max_logit, *std::max_element(row, row + 2500));
    CHECK_EQUAL(head.best_token_id, static_cast<int32_t>(std::max_element(row, row + 2500) - row));
    CHECK_EQUAL(static_cast<int64_t>(head.group_max.size()), (2500 + head.group_tokens - 1) / head.group_tokens);
    for (int64_t group = 0; group * head.group_tokens < 2500; ++group)
      CHECK_EQUAL(head.group_max[static_cast<size_t>(group)],
                  *std::max_element(row + group * head.group_tokens, row + std::min<int64_t>(2500, (group + 1) * head.group_tokens)));
    double sum = 0;
    for (int64_t token = 0; token < 2500; ++token) sum += std::exp(static_cast<double>(row[token]));
    check_close("log_sum_exp", log_sum_exp(head, 2500), std::log(sum), 1e-5);
  }
}

// Where the head is stored so that its upper bits can be read alone.
TEST(engine_step_for_the_best_token_alone_gives_the_same_one) {
  for (const std::string family : {"gemma", "gemma2", "llama", "capped"}) {
    Config config = family_config(family == "capped" ? "gemma2" : family);
    config.vocab_size = 2503;
    if (family == "capped") config.final_logit_softcapping = 0.25;  // many logits are the cap itself
    const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
    for (const int threads : {1, 3}) {
      const auto engine = tiny_engine(checkpoint, threads);
      const auto sequence = engine->new_sequence(200);
      int32_t token_id = 5;
      for (int step = 0; step < 60; ++step) {
        const auto copy = engine->fork(*sequence, 200);
        const Work work{sequence.get(), {&token_id, 1}}, other{copy.get(), {&token_id, 1}};
        engine->step({&other, 1});
        const Engine::HeadView whole = engine->head(0);
        const float max_logit = whole.max_logit;
        const int32_t best = whole.best_token_id;
        engine->step({&work, 1}, nullptr, true);
        CHECK_EQUAL(engine->head(0).best_token_id, best);
        CHECK_EQUAL(engine->head(0).max_logit, max_logit);
        CHECK_EQUAL(engine->head(0).logits[best], max_logit);
        token_id = step % 3 ? best : step * 41 % 2503;
      }
    }
  }
}

// Any mask, from one token to all but one: the best allowed token is the one that the whole row has.
TEST(engine_step_for_the_best_allowed_token_gives_the_same_one) {
  for (const std::string family : {"gemma3", "gemma2", "capped"}) {
    Config config = family_config(family == "capped" ? "gemma2" : family);
    config.vocab_size = 2503;
    if (family == "capped") config.final_logit_softcapping = 0.25;  // many logits are the cap itself
    const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
    for (const int threads : {1, 3}) {
      const auto engine = tiny_engine(checkpoint, threads);
      const auto sequence = engine->new_sequence(200);
      Random random(static_cast<uint64_t>(threads));
      for (int step = 0; step < 32; ++step) {
        const int32_t token_id = step * 41 % 2503;
        std::vector<uint32_t> allowed(79);
        const int kind = step % 4;  // one token; a few; most; one group
        for (size_t word = 0; word < allowed.size(); ++word)
          allowed[word] = kind == 2 ? 0xffffffffu ^ static_cast<uint32_t>(random.below(16)) : kind == 1 && random.below(20) == 0 ? static_cast<uint32_t>(random.below(8)) : 0;
        if (kind != 2) allowed[static_cast<size_t>(random.below(78))] |= kind == 3 ? 0xffff0000 : 4;
        const auto copy = engine->fork(*sequence, 200);
        const Work work{sequence.get(), {&token_id, 1}, true, allowed}, other{copy.get(), {&token_id, 1}};
        engine->step({&other, 1});
        const int32_t wanted = choose_token(engine->head(0), 2503, {}, 0, {}, {}, allowed, -1).token_id;
        engine->step({&work, 1}, nullptr, true);
        CHECK(std::isfinite(engine->head(0).max_logit));
        CHECK_EQUAL(choose_token(engine->head(0), 2503, {}, 0, {}, {}, allowed, -1).token_id, wanted);
      }
    }
  }
}

TEST(engine_step_leaves_out_rows_that_nobody_wants) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 40, 3);
  const auto one = engine->new_sequence(50), other = engine->new_sequence(50), alone = engine->new_sequence(50);
  const auto wanted = append(*engine, *alone, std::span(tokens).first(7));
  const Work work[] = {{one.get(), tokens, false}, {other.get(), std::span(tokens).first(7)}};
  engine->step(work, nullptr, true);
  CHECK_EQUAL(one->length(), 40);
  CHECK_THROWS(engine->head(0), "[engine.engine] work 0 of the last step has no logits.");
  CHECK_EQUAL(engine->head(1).max_logit, *std::max_element(wanted.begin(), wanted.end()));
}

TEST(engine_step_of_all_rows_gives_what_forward_gives) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), block_types);
  const auto engine = tiny_engine(checkpoint, 2);
  const auto tokens = random_tokens(checkpoint.config(), 40, 16);
  const auto wanted = whole_logits(*engine, tokens);
  const auto sequence = engine->new_sequence(40);
  size_t done = 0;
  for (const size_t count : {size_t{1}, Engine::max_rows_kept, size_t{7}}) {
    engine->step_all({sequence.get(), std::span(tokens).subspan(done, count)});
    for (size_t i = 0; i < count; ++i)
      check_same_bits("row " + std::to_string(done + i), engine->head(i).logits, wanted.data() + (done + i) * 300, 300);
    CHECK_THROWS(engine->head(count), "of the last step has no logits.");
    done += count;
  }
}

TEST(engine_gives_the_rows_and_kinds_of_results_that_are_asked_for) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), block_types);
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 40, 13);
  const auto run = [&](Rows rows, bool want_logits, bool want_hidden) {
    const auto sequence = engine->new_sequence(40);
    const Work work{sequence.get(), tokens};
    return engine->forward({&work, 1}, {rows, want_logits, want_hidden});
  };
  const Results all = run(Rows::all, true, true), last = run(Rows::last, true, true), none = run(Rows::none, true, true);
  CHECK_EQUAL(all.logits.size(), 40u * 300);
  CHECK_EQUAL(all.hidden.size(), 40u * 64);
  CHECK_EQUAL(last.logits.size(), 300u);
  CHECK_EQUAL(last.hidden.size(), 64u);
  CHECK(none.logits.empty() && none.hidden.empty());
  check_same("logits", last.logits, {all.logits.end() - 300, all.logits.end()});
  check_same("hidden", last.hidden, {all.hidden.end() - 64, all.hidden.end()});
  CHECK(run(Rows::all, false, true).logits.empty());
  check_same("hidden alone", run(Rows::all, false, true).hidden, all.hidden);
  CHECK(run(Rows::all, true, false).hidden.empty());
}

TEST(engine_with_a_kept_layout_gives_the_same_bits_before_and_after_its_weights_move) {
  const TemporaryFolder folder;
  const TinyCheckpoint checkpoint(family_config("gemma3"), block_types);
  const auto tokens = random_tokens(checkpoint.config(), 40, 14);
  const auto wanted = whole_logits(*tiny_engine(checkpoint), tokens);
  EngineOptions options;
  options.num_threads = 2;
  options.layout_folder = folder.path() + "layouts";
  std::string warned;
  options.warn = [&](const std::string& warning) { warned += warning; };
  for (int load = 0; load < 3; ++load) {
    const auto engine = Engine::load(checkpoint, options);
    CHECK_EQUAL(engine->from_layout_file(), load > 0);
    for (int pass = 0; pass < 20; ++pass) check_same("load " + std::to_string(load), whole_logits(*engine, tokens), wanted);
    CHECK(engine->weight_bytes() > engine->weight_bytes_per_token());
  }
  CHECK_EQUAL(warned, "");
}

TEST(engine_caches_of_both_types_agree_nearly) {
  for (const std::string& family : families()) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::f32});
    const auto tokens = random_tokens(checkpoint.config(), 70, 15);
    const auto exact = whole_logits(*tiny_engine(checkpoint, 1, CacheType::f32), tokens);
    const auto rounded = whole_logits(*tiny_engine(checkpoint, 1, CacheType::bf16), tokens);
    CHECK(exact != rounded);
    double difference = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      difference += std::pow(exact[i] - rounded[i], 2);
      size += std::pow(exact[i], 2);
    }
    // Keys, values and weights of attention each carry 2^-9; logits a few times that.
    check_close(family, std::sqrt(difference / size), 0, 0.02);
  }
}
