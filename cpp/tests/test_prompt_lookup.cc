// Guessing from the text's own past: what is guessed, when it pays, and that the tokens stay the same.
#include "engine/prompt_lookup.h"

#include <algorithm>
#include <string>

#include "formats/error.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;
using Tokens = std::vector<int32_t>;

// Greedy tokens one by one after a prompt.
Tokens plain(Engine& engine, const Tokens& prompt, int64_t count) {
  const auto sequence = engine.new_sequence(static_cast<int64_t>(prompt.size()) + count);
  Tokens next = prompt, answer;
  while (static_cast<int64_t>(answer.size()) < count) {
    const Work work{sequence.get(), next};
    engine.step({&work, 1});
    next = {engine.head(0).best_token_id};
    answer.push_back(next[0]);
  }
  return answer;
}

// The same by guessing; `max_tokens` at a time.
Tokens guessed(Engine& engine, const Tokens& prompt, int64_t count, int64_t max_tokens, PromptLookup& lookup) {
  const auto sequence = engine.new_sequence(static_cast<int64_t>(prompt.size()) + count);
  append(engine, *sequence, std::span(prompt).first(prompt.size() - 1));
  Tokens text = prompt;
  while (static_cast<int64_t>(text.size() - prompt.size()) < count) {
    const int64_t left = count - static_cast<int64_t>(text.size() - prompt.size());
    const Tokens chosen = decode_with_lookup(engine, *sequence, text, std::min(left, max_tokens), lookup);
    CHECK(!chosen.empty());
    CHECK(static_cast<int64_t>(chosen.size()) <= std::min(left, max_tokens));
    text.insert(text.end(), chosen.begin(), chosen.end());
    CHECK_EQUAL(sequence->length(), static_cast<int64_t>(text.size()) - 1);
    CHECK(std::equal(sequence->token_ids().begin(), sequence->token_ids().end(), text.begin()));
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt.size()), text.end()};
}

Tokens repeated(const Tokens& part, int times) {
  Tokens text;
  for (int i = 0; i < times; ++i) text.insert(text.end(), part.begin(), part.end());
  return text;
}

}  // namespace

TEST(prompt_lookup_guesses_what_followed_the_last_time) {
  PromptLookup lookup;
  CHECK(lookup.guess({}, 7).empty());
  CHECK(lookup.guess(Tokens{1, 2, 3, 4, 5}, 7).empty());
  // Three tokens before two, and the latest of two places.
  CHECK_EQUAL(PromptLookup().guess(Tokens{1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3}, 1)[0], 50);
  CHECK_EQUAL(PromptLookup().guess(Tokens{1, 2, 3, 50, 1, 2, 3, 60, 1, 2, 3}, 1)[0], 60);
  CHECK_EQUAL(PromptLookup().guess(Tokens{2, 3, 50, 8, 2, 3}, 1)[0], 50);
  CHECK(PromptLookup().guess(Tokens{2, 3, 50, 8, 2, 4}, 7).empty());
  CHECK(PromptLookup().guess(Tokens{2, 3, 50, 8, 2, 3}, 0).empty());
  // A text that repeats itself goes on doing so.
  const Tokens guesses = PromptLookup().guess(Tokens{7, 8, 7, 8, 7}, 7);
  CHECK(guesses.size() >= 2);
  for (size_t i = 0; i < guesses.size(); ++i) CHECK_EQUAL(guesses[i], i % 2 ? 7 : 8);
}

TEST(prompt_lookup_takes_in_a_growing_text) {
  PromptLookup lookup;
  Tokens text = random_tokens(family_config("gemma"), 50, 1);
  for (size_t i = 10; i < 30; ++i) {
    text.push_back(text[i]);
    const Tokens guesses = lookup.guess(text, 7), fresh = PromptLookup().guess(text, 7);
    CHECK(guesses == fresh);
    if (i > 12) CHECK_EQUAL(guesses.at(0), text[i + 1]);
  }
}

TEST(prompt_lookup_guesses_more_after_success_and_stops_after_failure) {
  const double cheap[] = {1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7};
  GuessRecord record;
  const int64_t first = record.choose(cheap);
  CHECK(first >= 1);
  for (int i = 0; i < 20; ++i) record.note(record.choose(cheap), record.choose(cheap));
  CHECK_EQUAL(record.choose(cheap), 7);
  CHECK_EQUAL(record.choose(std::span(cheap).first(4)), 3);
  CHECK_EQUAL(record.choose(std::span(cheap).first(1)), 0);
  // Where a guess costs as much as a token nothing is gained by the best of them.
  const double dear[] = {1, 2, 3, 4};
  CHECK_EQUAL(record.choose(dear), 0);
  int failures = 0;
  for (; record.choose(cheap) > 0; ++failures) record.note(1, 0);
  CHECK(failures > 1 && failures < 40);
  // It waits for ever more chances between trials.
  int64_t waits[8];
  for (int64_t& wait : waits) {
    wait = 1;
    while (record.choose(cheap) == 0) ++wait;
    do record.note(1, 0);
    while (record.choose(cheap) > 0);
  }
  CHECK(waits[0] >= 14 && waits[1] > waits[0] && waits[2] > waits[1]);
  CHECK(waits[7] <= 512);
  // Success ends that.
  while (record.choose(cheap) == 0) continue;
  for (int i = 0; i < 20; ++i) record.note(7, 7);
  CHECK_EQUAL(record.choose(cheap), 7);
}

TEST(prompt_lookup_learns_what_a_pass_costs) {
  const Tokens text = repeated({1, 2, 3, 4, 5, 6, 7, 8, 9}, 6);
  PromptLookup lookup;
  lookup.note(0, 0, 1.0);
  for (int i = 0; i < 100; ++i) {
    const auto guesses = static_cast<int64_t>(lookup.guess(text, 7).size());
    if (guesses) lookup.note(guesses, guesses, 1.0 + 1.0 * static_cast<double>(guesses));
  }
  // All were right, and yet each took as long as a token.
  int tried = 0;
  for (int i = 0; i < 10; ++i) tried += !lookup.guess(text, 7).empty();
  CHECK(tried <= 1);
  CHECK(lookup.num_guessed() > 0);
  CHECK_EQUAL(lookup.num_guessed(), lookup.num_right());
}

TEST(prompt_lookup_gives_the_tokens_of_plain_decoding) {
  for (const std::string& family : families())
    for (const CacheType type : {CacheType::bf16, CacheType::f32}) {
      const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0, TensorType::q5_0, TensorType::bf16});
      const auto engine = tiny_engine(checkpoint, 2, type);
      for (uint64_t seed = 0; seed < cases(3u, 1u); ++seed) {
        const Tokens prompt = repeated(random_tokens(checkpoint.config(), 12, seed), 3);
        const Tokens wanted = plain(*engine, prompt, 120);
        for (const int64_t at_most : cases<std::vector<int64_t>>({1, 2, 8, 120}, {1, 8})) {
          PromptLookup lookup;
          CHECK(guessed(*engine, prompt, 120, at_most, lookup) == wanted);
          CHECK(at_most > 1 || lookup.num_guessed() == 0);
        }
      }
    }
}

TEST(prompt_lookup_is_right_where_a_text_repeats_itself) {
  // Random models soon go round in circles.
  const TinyCheckpoint checkpoint(family_config("gemma"), {TensorType::f32});
  const auto engine = tiny_engine(checkpoint);
  PromptLookup lookup;
  const Tokens prompt = random_tokens(checkpoint.config(), 5, 1);
  CHECK(guessed(*engine, prompt, 600, 600, lookup) == plain(*engine, prompt, 600));
  CHECK(lookup.num_guessed() > 0);
  CHECK(lookup.num_right() <= lookup.num_guessed());
}

TEST(prompt_lookup_in_rings_that_wrap) {
  for (const std::string family : {"gemma3", "mistral"}) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0});
    const auto engine = tiny_engine(checkpoint, 2);
    const Tokens prompt = repeated(random_tokens(checkpoint.config(), 38, 2), 8);  // 304 of 320 slots
    const int64_t count = cases(700, 60);
    PromptLookup lookup;
    CHECK(guessed(*engine, prompt, count, count, lookup) == plain(*engine, prompt, count));
  }
}

TEST(engine_step_all_gives_every_row) {
  const TinyCheckpoint checkpoint(family_config("gemma2"), {TensorType::q8_0, TensorType::f16});
  const auto engine = tiny_engine(checkpoint, 2);
  const Tokens tokens = random_tokens(checkpoint.config(), 40, 1);
  const auto sequence = engine->new_sequence(100), other = engine->new_sequence(100);
  append(*engine, *sequence, std::span(tokens).first(8));
  const auto wanted = append(*engine, *other, tokens, Rows::all);
  engine->step_all({sequence.get(), std::span(tokens).subspan(8)});
  CHECK_EQUAL(sequence->length(), 40);
  for (size_t i = 0; i < 32; ++i) {
    const auto head = engine->head(i);
    const float* row = wanted.data() + (8 + i) * 300;
    check_same_bits("row " + std::to_string(i), head.logits, row, 300);
    CHECK_EQUAL(head.best_token_id, std::max_element(row, row + 300) - row);
  }
  CHECK_THROWS(engine->head(32), "work 32 of the last step has no logits");
  CHECK_THROWS(engine->step_all({sequence.get(), {}}), "[engine.engine] 0 tokens were given to step_all, expected 1 to 32.");
  const Tokens many(33, 5);
  CHECK_THROWS(engine->step_all({sequence.get(), many}), "33 tokens were given to step_all, expected 1 to 32");
  const Tokens full(32, 5);
  engine->step_all({sequence.get(), full});
  CHECK_THROWS(engine->step_all({sequence.get(), full}), "a sequence of 104 tokens does not fit the cache of 100");
}
