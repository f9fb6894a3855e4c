// Scores of texts that share beginnings, against logits of each text alone.
#include "engine/scorer.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

using Texts = std::vector<std::vector<int32_t>>;

std::vector<int32_t> joined(std::initializer_list<std::vector<int32_t>> parts) {
  std::vector<int32_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// All texts, group by group.
std::vector<TextScore> scored(Scorer& scorer, const Texts& texts, int64_t num_scored) {
  std::vector<ScoredText> asked;
  for (const auto& text : texts) asked.push_back({text, num_scored});
  std::vector<TextScore> scores(asked.size());
  for (size_t done = 0; done < asked.size();)
    done += scorer.score_group(std::span(asked).subspan(done), std::span(scores).subspan(done));
  return scores;
}

// What a text's logits say, in double precision.
TextScore reference(Engine& engine, const std::vector<int32_t>& text, int64_t num_scored) {
  const auto sequence = engine.new_sequence(static_cast<int64_t>(text.size()));
  const std::vector<float> logits = append(engine, *sequence, text, Rows::all);
  const auto vocab = static_cast<size_t>(engine.config().vocab_size);
  TextScore score;
  for (size_t t = text.size() - static_cast<size_t>(num_scored); t < text.size(); ++t) {
    const float* const row = logits.data() + (t - 1) * vocab;
    const float most = *std::max_element(row, row + vocab), chosen = row[text[t]];
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(row[i]) - most);
    score.logprobs.push_back(static_cast<float>(chosen - most - std::log(sum)));
    score.is_greedy = score.is_greedy && chosen == most;
  }
  return score;
}

void check_scores(const std::string& where, const std::vector<TextScore>& found, const std::vector<TextScore>& expected) {
  CHECK_EQUAL(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK_EQUAL(found[i].is_greedy, expected[i].is_greedy);
    CHECK_EQUAL(found[i].logprobs.size(), expected[i].logprobs.size());
    for (size_t k = 0; k < found[i].logprobs.size(); ++k)
      check_close(where + " text " + std::to_string(i), found[i].logprobs[k], expected[i].logprobs[k], 1e-5);
  }
}

// Shots, then questions, then answers: what an evaluation asks for; with answers that are one token, that begin alike,
// that are each other's beginning, and a text that stands alone.
Texts questions(const Config& config, int64_t num_shots) {
  const auto tokens = [&](int64_t count, uint64_t seed) { return random_tokens(config, count, seed); };
  const std::vector<int32_t> shots = tokens(num_shots, 1);
  Texts texts;
  for (uint64_t question = 2; question < 5; ++question) {
    const std::vector<int32_t> asked = joined({shots, tokens(static_cast<int64_t>(5 * question), question)});
    const std::vector<int32_t> alike = tokens(12, 77);
    for (uint64_t answer = 0; answer < 3; ++answer) texts.push_back(joined({asked, alike, tokens(6, 10 * question + answer)}));
    texts.push_back(joined({asked, tokens(9, question + 90)}));
    texts.push_back(joined({asked, tokens(9, question + 90), tokens(3, 7)}));
  }
  texts.push_back(tokens(30, 99));
  return texts;
}

}  // namespace

TEST(scorer_gives_what_the_logits_of_each_text_alone_say) {
  for (const std::string& family : families())
    for (const CacheType cache : {CacheType::bf16, CacheType::f32})
      for (const int64_t shots : {0, 70, 300}) {
        Config config = family_config(family);
        config.vocab_size = 2500;  // more than two groups of the head
        const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
        const auto engine = tiny_engine(checkpoint, 2, cache);
        Scorer scorer(*engine);
        const Texts texts = questions(config, shots);
        const std::string where = family + " shots " + std::to_string(shots);
        for (const int64_t num_scored : {1, 3, 9, 18}) {
          std::vector<TextScore> expected;
          for (const auto& text : texts) expected.push_back(reference(*engine, text, num_scored));
          check_scores(where, scored(scorer, texts, num_scored), expected);
        }
      }
}

TEST(scorer_has_the_same_bits_whatever_shares_a_call) {
  const Config config = family_config("gemma3");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto one = tiny_engine(checkpoint, 1), three = tiny_engine(checkpoint, 3);
  Scorer alone(*one), together(*three);
  const Texts texts = questions(config, 300);
  const std::vector<TextScore> all = scored(together, texts, 6), again = scored(together, texts, 6);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<TextScore> single = scored(alone, {texts[i]}, 6);
    check_same_bits("text " + std::to_string(i), all[i].logprobs.data(), single[0].logprobs.data(), 6);
    check_same_bits("again " + std::to_string(i), again[i].logprobs.data(), single[0].logprobs.data(), 6);
  }
}

TEST(scorer_keeps_what_groups_share_and_leaves_it_for_another) {
  const Config config = family_config("gemma2");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint, 2);
  Scorer scorer(*engine);
  // Two sets of shots that agree for 100 tokens, then one that shares nothing, each with more texts than a group takes.
  const std::vector<int32_t> common = random_tokens(config, 100, 3);
  Texts texts;
  for (uint64_t set = 0; set < 3; ++set) {
    const std::vector<int32_t> shots = joined({set < 2 ? common : random_tokens(config, 90, 5), random_tokens(config, 400, 20 + set)});
    for (uint64_t i = 0; i < 40; ++i) texts.push_back(joined({shots, random_tokens(config, 80, 100 * set + i + 1000)}));
  }
  std::vector<TextScore> expected;
  for (const auto& text : texts) expected.push_back(reference(*engine, text, 4));
  check_scores("forwards", scored(scorer, texts, 4), expected);
  std::reverse(texts.begin(), texts.end());
  std::reverse(expected.begin(), expected.end());
  check_scores("backwards", scored(scorer, texts, 4), expected);
}

TEST(scorer_knows_the_most_probable_tokens) {
  const Config config = family_config("gemma");
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  std::vector<int32_t> text = random_tokens(config, 10, 1);
  const auto sequence = engine->new_sequence(20);
  Work work{sequence.get(), text};
  engine->step({&work, 1});
  text.push_back(engine->head(0).best_token_id);
  Scorer scorer(*engine);
  std::vector<int32_t> other = text;
  other.back() = (other.back() + 1) % static_cast<int32_t>(config.vocab_size);
  const std::vector<TextScore> scores = scored(scorer, {text, other}, 1);
  CHECK(scores[0].is_greedy);
  CHECK(!scores[1].is_greedy);
}

TEST(scorer_refuses_what_has_no_token_before_the_scored_ones) {
  const TinyCheckpoint checkpoint(family_config("gemma"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  Scorer scorer(*engine);
  CHECK_THROWS(scored(scorer, {{1, 2, 3}}, 3),
               "[engine.scorer] 3 tokens of a text of 3 are to be scored, expected at least 1 and one before it.");
  CHECK_THROWS(scored(scorer, {{1, 2, 3}}, 0),
               "[engine.scorer] 0 tokens of a text of 3 are to be scored, expected at least 1 and one before it.");
}
