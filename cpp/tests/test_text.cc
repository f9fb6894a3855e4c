// Texts that join and leave at any pass say, to the last token, what they say alone.
#include "bindings/text.h"

#include <algorithm>
#include <atomic>
#include <list>
#include <thread>

#include "formats/error.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

const InterruptCheck go_on = [] {};

std::shared_ptr<SharedEngine> shared_engine(const Checkpoint& checkpoint, int num_threads, int64_t prefix_bytes) {
  return std::make_shared<SharedEngine>(tiny_engine(checkpoint, num_threads), prefix_bytes);
}

// The greedy answer of a batch of one row, computed from the start.
std::vector<int32_t> alone(const std::shared_ptr<SharedEngine>& engine, const std::vector<int32_t>& prompt, int64_t count) {
  Batch batch(engine, 1, static_cast<int64_t>(prompt.size()) + count);
  batch.prefill({prompt}, go_on);
  const std::vector<float> uniforms(static_cast<size_t>(count));
  std::vector<int32_t> answer;
  for (const auto& step : batch.decode({count, {SamplingOptions{}}, uniforms, -1, {}, {}}, go_on))
    answer.push_back(step.front().token_id);
  return answer;
}

struct Running {
  std::vector<int32_t> prompt;
  size_t length;
  std::unique_ptr<Text> text;
  std::vector<int32_t> answer = {};
};

Running begin(const std::shared_ptr<SharedEngine>& engine, std::vector<int32_t> prompt, size_t length) {
  const auto room = static_cast<int64_t>(prompt.size() + length);
  auto text = std::make_unique<Text>(engine, prompt, room, TextOptions{});
  return {std::move(prompt), length, std::move(text)};
}

}  // namespace

TEST(text_says_the_same_whoever_shares_its_passes) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0, TensorType::q4_0});
  const auto plain = shared_engine(checkpoint, 1, 0), engine = shared_engine(checkpoint, 2, 8 << 20);
  plain->set_prompt_lookup(false);
  const auto system = random_tokens(checkpoint.config(), 90, 1);
  Random random(7);
  std::list<Running> running;
  int checked = 0;
  for (int pass = 0; pass < cases(100, 40); ++pass) {
    if (running.size() < 6 && random.below(3) == 0) {
      std::vector<int32_t> prompt(system.begin(), system.begin() + random.below(90));  // most begin alike
      for (const int32_t id : random_tokens(checkpoint.config(), 1 + random.below(40), random.bits())) prompt.push_back(id);
      running.push_back(begin(engine, std::move(prompt), static_cast<size_t>(1 + random.below(20))));
    }
    if (running.empty()) continue;
    std::vector<Share> shares;
    for (const Running& one : running) shares.push_back({one.text.get(), 1 + random.below(60), {}, {}});
    const bool is_steady = std::all_of(running.begin(), running.end(), [](const Running& one) {
      return one.text->num_waiting() == 1 && one.answer.size() + 2 <= one.length;
    });
    const auto chosen = run_pass(shares, is_steady ? 2 : 1, go_on);
    size_t i = 0;
    for (auto one = running.begin(); one != running.end(); ++i) {
      for (const Choice& choice : chosen[i]) one->answer.push_back(choice.token_id);
      const bool leaves_early = random.below(40) == 0 && !one->answer.empty();
      if (one->answer.size() < one->length && !leaves_early) {
        ++one;
        continue;
      }
      CHECK(one->answer == alone(plain, one->prompt, static_cast<int64_t>(one->answer.size())));
      ++checked;
      one = running.erase(one);
    }
  }
  CHECK(checked >= cases(12, 3));
}

TEST(text_takes_what_is_appended_with_the_next_pass) {
  const TinyCheckpoint checkpoint(family_config("gemma2"), {TensorType::q8_0});
  const auto engine = shared_engine(checkpoint, 1, 0);
  const auto tokens = random_tokens(checkpoint.config(), 30, 1);
  Text text(engine, tokens, 100, {});
  CHECK_EQUAL(text.num_waiting(), 30);
  const Share share{&text, 100, {}, {}};
  std::vector<int32_t> all = tokens;
  all.push_back(run_pass({&share, 1}, 1, go_on)[0][0].token_id);
  text.append({5, 6, 7});
  for (const int32_t id : {5, 6, 7}) all.push_back(id);
  CHECK_EQUAL(text.num_waiting(), 4);
  CHECK_EQUAL(run_pass({&share, 1}, 1, go_on)[0][0].token_id, alone(engine, all, 1)[0]);
  CHECK_THROWS(text.append(std::vector<int32_t>(90, 1)), "does not fit the cache of 100");
  CHECK_EQUAL(text.num_waiting(), 1);
}

TEST(text_is_as_it_was_after_a_pass_that_was_interrupted_or_refused) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = shared_engine(checkpoint, 1, 0);
  engine->set_prompt_lookup(false);
  const auto tokens = random_tokens(checkpoint.config(), 30, 1);
  const auto wanted = alone(engine, tokens, 5);
  Text text(engine, tokens, 100, {});
  const Share share{&text, 100, {}, {}}, nothing{&text, 0, {}, {}};
  CHECK_THROWS(run_pass({&nothing, 1}, 1, go_on), "max_tokens is 0, expected at least 1.");
  CHECK_THROWS(run_pass({&share, 1}, 2, go_on), "num_steps is 2, expected 1");
  CHECK_EQUAL(run_pass({&share, 1}, 1, go_on)[0][0].token_id, wanted[0]);
  int calls = 0;
  const InterruptCheck interrupt = [&] { if (++calls == 2) throw Error(ErrorKind::cancelled, "enough"); };
  CHECK_THROWS(run_pass({&share, 1}, 4, interrupt), "enough");
  CHECK_EQUAL(run_pass({&share, 1}, 1, go_on)[0][0].token_id, wanted[3]);  // two came before the interruption
}

TEST(text_of_an_engine_that_is_closed_beside_it_says_so) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = shared_engine(checkpoint, 2, 1 << 20);
  const auto tokens = random_tokens(checkpoint.config(), 20, 1);
  std::atomic<int> passes = 0;
  std::string told;
  std::thread worker([&] {
    try {
      for (;;) {
        Text text(engine, tokens, 40, {});
        const Share share{&text, 7, {}, {}};
        for (int i = 0; i < 15; ++i, ++passes) run_pass({&share, 1}, 1, go_on);
      }
    } catch (const Error& error) {
      told = error.what();
    }
  });
  while (passes < 20) std::this_thread::yield();
  engine->close();
  worker.join();
  CHECK(told.find("model: it was closed") != std::string::npos);
}
