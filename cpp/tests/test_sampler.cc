// Choosing a token: the same as gemcut.model.sampling_host (data/text.json) for any size of the head's groups.
#include <algorithm>
#include <cmath>

#include "engine/sampler.h"
#include "formats/json.h"
#include "tests/files.h"
#include "tests/testing.h"

using namespace gemcut;
using gemcut::testing::test_data;

namespace {

// make_text_golden.py makes the same.
std::vector<float> made_up_logits(uint64_t seed, size_t count) {
  std::vector<float> logits(count);
  for (float& logit : logits) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    logit = static_cast<float>((seed >> 33) % 4096) / 256 - 8;
  }
  return logits;
}

// What the engine's head gives for a row of logits.
struct Head {
  Head(std::vector<float> row, size_t group_tokens) : logits(std::move(row)) {
    for (size_t i = 0; i < logits.size(); i += group_tokens) {
      const auto end = logits.begin() + static_cast<std::ptrdiff_t>(std::min(i + group_tokens, logits.size()));
      group_max.push_back(*std::max_element(logits.begin() + static_cast<std::ptrdiff_t>(i), end));
    }
    const auto best = std::max_element(logits.begin(), logits.end());
    view.logits = logits.data();
    view.max_logit = *best;
    view.best_token_id = static_cast<int32_t>(best - logits.begin());
    view.group_max = group_max;
    view.group_tokens = static_cast<int64_t>(group_tokens);
  }
  std::vector<float> logits, group_max;
  Engine::HeadView view;
};

std::vector<uint32_t> mask_of(const std::vector<int32_t>& ids, size_t vocab_size) {
  std::vector<uint32_t> mask((vocab_size + 31) / 32);
  for (const int32_t id : ids) mask[static_cast<size_t>(id) / 32] |= 1u << id % 32;
  return mask;
}

std::vector<int32_t> ids_of(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& item : list.items()) ids.push_back(static_cast<int32_t>(item.integer()));
  return ids;
}

SamplingOptions options_of(const Json& row) {
  const auto number = [&](const char* key, double otherwise) {
    const Json* value = row.find(key);
    return static_cast<float>(value ? value->number() : otherwise);
  };
  SamplingOptions options;
  options.temperature = number("temperature", 0);
  options.top_k = row.find("top_k")->integer();
  options.top_p = number("top_p", 1);
  options.min_p = number("min_p", 0);
  options.repetition_penalty = number("repetition_penalty", 1);
  options.presence_penalty = number("presence_penalty", 0);
  options.frequency_penalty = number("frequency_penalty", 0);
  for (const Json& pair : row.find("bias")->items())
    options.logit_bias.emplace_back(static_cast<int32_t>(pair.items()[0].integer()),
                                    static_cast<float>(pair.items()[1].number()));
  return options;
}

void check_row(const Json& row, size_t group_tokens) {
  const auto vocab_size = static_cast<size_t>(row.find("vocab_size")->integer());
  const auto seed = static_cast<uint64_t>(row.find("seed")->integer());
  const Head head(made_up_logits(seed, vocab_size), group_tokens);
  std::vector<uint32_t> allowed;
  if (row.find("masked")->boolean()) {
    std::vector<int32_t> ids{static_cast<int32_t>(seed % vocab_size)};
    const std::vector<float> others = made_up_logits(seed + 1000, vocab_size);
    for (size_t id = 0; id < vocab_size; ++id)
      if (others[id] > 4) ids.push_back(static_cast<int32_t>(id));
    allowed = mask_of(ids, vocab_size);
  }
  const auto expected = ids_of(*row.find("ids"));
  for (size_t i = 0; i < expected.size(); ++i) {
    const Choice choice =
        choose_token(head.view, static_cast<int64_t>(vocab_size), options_of(row),
                     static_cast<float>(row.find("uniforms")->items()[i].number()), ids_of(*row.find("seen")),
                     ids_of(*row.find("answer")), allowed, i == 0 ? 2 : -1);
    CHECK_EQUAL(choice.token_id, expected[i]);
    if (i > 0) continue;
    CHECK_NEAR(choice.logprob, row.find("logprob")->number(), 3e-5);
    CHECK_EQUAL(choice.top.size(), size_t{2});
    for (size_t k = 0; k < 2; ++k) CHECK_NEAR(choice.top[k].second, row.find("best")->items()[k].number(), 3e-5);
  }
}

}  // namespace

TEST(sampler_chooses_as_python_does) {
  const Json data = Json::parse(test_data("text.json"), "text.json", ErrorKind::failed);
  CHECK(data.find("draws")->items().size() >= 100);
  for (const Json& row : data.find("draws")->items())
    for (const size_t group_tokens : {4, 64, 1024}) check_row(row, group_tokens);
}

TEST(sampler_takes_the_heads_own_choice_when_greedy) {
  Head head({1, 3, 3, 2}, 2);
  CHECK_EQUAL(choose_token(head.view, 4, {}, 0.9f, {}, {}, {}, -1).token_id, 1);
  head.view.best_token_id = 2;
  CHECK_EQUAL(choose_token(head.view, 4, {}, 0.9f, {}, {}, {}, -1).token_id, 2);
}

TEST(sampler_keeps_ties_with_the_last_of_top_k) {
  const Head head({5, 4, 4, 4, 1}, 2);
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 2;
  std::vector<int32_t> drawn;
  for (const float uniform : {0.0f, 0.5f, 0.7f, 0.99f})
    drawn.push_back(choose_token(head.view, 5, options, uniform, {}, {}, {}, -1).token_id);
  // Weights 1 and three times 1/e: running sums 0.475, 0.65, 0.825, 1 of the total.
  CHECK((drawn == std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(sampler_lists_the_best_tokens_lower_id_first) {
  const Head head({0, 2, 1, 2, 0, 2}, 2);
  const Choice choice = choose_token(head.view, 6, {}, 0, {}, {}, {}, 4);
  std::vector<int32_t> ids;
  for (const auto& [id, logprob] : choice.top) ids.push_back(id);
  CHECK((ids == std::vector<int32_t>{1, 3, 5, 2}));
  CHECK_EQUAL(choice.logprob, choice.top[0].second);
  CHECK_EQUAL(choose_token(head.view, 6, {}, 0, {}, {}, {}, 50).top.size(), size_t{6});
  CHECK(choose_token(head.view, 6, {}, 0, {}, {}, {}, 0).top.empty());
}

TEST(sampler_ignores_ids_outside_the_vocabulary) {
  const Head head({1, 3, 2}, 2);
  SamplingOptions options;
  options.repetition_penalty = 4;
  const std::vector<int32_t> seen{1, 7, -1};
  CHECK_EQUAL(choose_token(head.view, 3, options, 0, seen, {}, {}, -1).token_id, 2);
}

TEST(sampler_refuses_masks_that_allow_nothing) {
  const Head head({1, 3, 2}, 2);
  const std::vector<uint32_t> nothing(1, 0), beyond(1, 0b11000), large(2, 1);
  for (const auto& mask : {nothing, beyond})
    CHECK_THROWS(choose_token(head.view, 3, {}, 0, {}, {}, mask, -1),
                 "[engine.sampler] allowed: forbids every token, expected one or more.");
  CHECK_THROWS(choose_token(head.view, 3, {}, 0, {}, {}, large, -1), "allowed: has 2 words, expected 1, one for each 32 of 3");
}

TEST(sampler_takes_the_best_that_a_mask_allows_the_lowest_id_of_equals) {
  const size_t vocab_size = 300;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<float> logits = made_up_logits(seed, vocab_size);
    for (float& logit : logits) logit = std::floor(logit);  // many are equal
    const std::vector<float> others = made_up_logits(seed + 77, vocab_size);
    std::vector<int32_t> ids{static_cast<int32_t>(seed)};
    for (size_t id = 0; id < vocab_size; ++id)
      if (others[id] > static_cast<float>(seed % 17) - 8) ids.push_back(static_cast<int32_t>(id));
    int32_t best = -1;
    for (int32_t id = 0; id < static_cast<int32_t>(vocab_size); ++id) {
      const bool is_allowed = std::find(ids.begin(), ids.end(), id) != ids.end();
      if (is_allowed && (best < 0 || logits[static_cast<size_t>(id)] > logits[static_cast<size_t>(best)])) best = id;
    }
    for (const size_t group_tokens : {20, 64, 1024}) {
      const Head head(logits, group_tokens);
      CHECK_EQUAL(choose_token(head.view, vocab_size, {}, 0, {}, {}, mask_of(ids, vocab_size), -1).token_id, best);
    }
  }
}

// Over the groups of the head and within them, each token comes as often as its probability says.
TEST(sampler_draws_from_all_tokens_by_their_probabilities) {
  const size_t vocab_size = 150;
  const std::vector<float> logits = made_up_logits(5, vocab_size);
  const std::vector<uint32_t> allowed = mask_of({0, 3, 40, 41, 70, 71, 72, 149}, vocab_size);
  for (const float temperature : {0.7f, 1.0f, 3.0f})
    for (const bool is_masked : {false, true})
      for (const size_t group_tokens : {7, 64, 1024}) {
        const Head head(logits, group_tokens);
        SamplingOptions options;
        options.temperature = temperature;
        std::vector<double> running;
        double total = 0;
        for (size_t id = 0; id < vocab_size; ++id) {
          const bool counts = !is_masked || (allowed[id / 32] >> id % 32 & 1);
          running.push_back(total += counts ? std::exp((logits[id] - head.view.max_logit) / temperature) : 0);
        }
        for (int i = 0; i < 400; ++i) {
          const float uniform = static_cast<float>(i) / 400;
          const int32_t id = choose_token(head.view, vocab_size, options, uniform, {}, {},
                                          is_masked ? allowed : std::vector<uint32_t>{}, -1).token_id;
          const double before = id ? running[static_cast<size_t>(id) - 1] : 0, wanted = uniform * total;
          CHECK(!is_masked || (allowed[static_cast<size_t>(id) / 32] >> id % 32 & 1));
          CHECK(before <= wanted + 1e-5 * total && wanted <= running[static_cast<size_t>(id)] + 1e-5 * total);
        }
      }
}
