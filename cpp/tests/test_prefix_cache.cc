// Going back in a sequence, and going on from an ended one, gives exactly what computing from the start gives.
#include "engine/prefix_cache.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "engine/sequence.h"
#include "formats/error.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using namespace gemcut::testing;

constexpr int64_t mebibyte = int64_t{1} << 20;

std::span<const int32_t> part(const std::vector<int32_t>& tokens, int64_t begin, int64_t count) {
  return std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
}

// Appends tokens to a sequence and to a new one that computed all of its text; both give the same logits.
void check_goes_on(Engine& engine, Sequence& sequence, std::span<const int32_t> more, const std::string& where) {
  std::vector<int32_t> text = sequence.token_ids();
  const auto fresh = engine.new_sequence(4000);
  if (!text.empty()) append(engine, *fresh, text);
  const auto wanted = append(engine, *fresh, more, Rows::all), found = append(engine, sequence, more, Rows::all);
  CHECK_EQUAL(found.size(), wanted.size());
  check_same_bits(where, found.data(), wanted.data(), static_cast<int64_t>(found.size()));
  text.insert(text.end(), more.begin(), more.end());
  CHECK(sequence.token_ids() == text);
}

std::unique_ptr<Sequence> ended(Engine& engine, std::span<const int32_t> tokens, int64_t snapshot_bytes, int64_t room = 0) {
  auto sequence = engine.new_sequence(static_cast<int64_t>(tokens.size()) + room);
  engine.keep_snapshots(*sequence, snapshot_bytes);
  append(engine, *sequence, tokens);
  return sequence;
}

}  // namespace

TEST(snapshots_let_a_sequence_go_back_anywhere) {
  for (const std::string& family : cases<std::vector<std::string>>({"gemma", "gemma2", "gemma3", "mistral"}, {"mistral"}))
    for (const CacheType cache : {CacheType::bf16, CacheType::f32}) {
      const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0, TensorType::bf16});
      const auto engine = tiny_engine(checkpoint, 2, cache);
      const auto tokens = random_tokens(checkpoint.config(), 2000, 1), other = random_tokens(checkpoint.config(), 700, 2);
      const auto sequence = ended(*engine, tokens, 16 * mebibyte, 1000);
      // Each time further back than the ring of 320 slots reaches, on places of every kind.
      for (const int64_t length : {1999, 1300, 1281, 1280, 640, 600, 577, 70, 64, 63, 7, 1}) {
        CHECK_EQUAL(engine->restorable(*sequence, length), length);
        CHECK(engine->truncate(*sequence, length));
        const auto copy = engine->fork(*sequence, length + 50);
        check_goes_on(*engine, *copy, part(other, 0, 40), std::string(family) + ", a copy of " + std::to_string(length));
      }
      CHECK(engine->truncate(*sequence, 0));
      check_goes_on(*engine, *sequence, tokens, "anew");
      // What came back can be overwritten and come back once more.
      for (const int64_t length : {700, 100, 650}) {
        CHECK(engine->truncate(*sequence, std::min(length, sequence->length())));
        check_goes_on(*engine, *sequence, part(other, 0, 700), std::string(family) + ", again from " + std::to_string(length));
      }
    }
}

TEST(snapshots_count_as_memory_and_thin_out_where_it_is_short) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 3000, 1);
  // 5 sliding layers, 2 KV heads of width 16, bfloat16: 64 positions are 40 KiB; 42 blocks are overwritten.
  constexpr int64_t block_bytes = 40 * 1024;
  const int64_t own = engine->sequence_bytes(3000);
  const auto all = ended(*engine, tokens, 100 * block_bytes);
  CHECK_EQUAL(all->num_bytes(), own + 42 * block_bytes);
  CHECK_EQUAL(engine->restorable(*all, 1111), 1111);
  const auto few = ended(*engine, tokens, 8 * block_bytes);
  CHECK(few->num_bytes() > own);
  CHECK(few->num_bytes() <= own + 8 * block_bytes);
  // With a window of 8 one block serves one place: every eighth remains.
  CHECK_EQUAL(engine->restorable(*few, 1111), 1024);
  CHECK_EQUAL(engine->restorable(*few, 511), 511);  // in a block that remained
  CHECK_EQUAL(engine->restorable(*few, 440), 0);
  CHECK(!engine->truncate(*few, 1111));
  CHECK_EQUAL(few->length(), 3000);
  CHECK(engine->truncate(*few, 1024));
  check_goes_on(*engine, *few, part(tokens, 5, 600), "from a place that remained");
  const auto none = ended(*engine, tokens, 0);
  CHECK_EQUAL(none->num_bytes(), own);
  CHECK_EQUAL(engine->restorable(*none, 1111), 0);
}

TEST(snapshots_never_take_more_than_was_said) {
  constexpr int64_t block_bytes = 40 * 1024;
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0}), without(family_config("gemma"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint), plain = tiny_engine(without);
  CHECK_EQUAL(plain->max_snapshot_bytes(3000, mebibyte), 0);
  CHECK_EQUAL(engine->max_snapshot_bytes(8, mebibyte), 0);  // all in the window
  CHECK_EQUAL(engine->max_snapshot_bytes(9, mebibyte), block_bytes);
  CHECK_EQUAL(engine->max_snapshot_bytes(8 + 64 * 3, mebibyte), 3 * block_bytes);
  CHECK_EQUAL(engine->max_snapshot_bytes(3000, 5 * block_bytes - 1), 4 * block_bytes);
  CHECK_EQUAL(engine->max_snapshot_bytes(3000, block_bytes - 1), 0);
  const auto tokens = random_tokens(checkpoint.config(), 3000, 1);
  for (const int64_t bytes : {int64_t{0}, block_bytes - 1, block_bytes, 5 * block_bytes, 16 * mebibyte}) {
    const auto sequence = engine->new_sequence(3000);
    engine->keep_snapshots(*sequence, bytes);
    const auto check = [&](const Sequence& each) {
      CHECK(each.num_bytes() <= engine->sequence_bytes(each.capacity()) + engine->max_snapshot_bytes(each.capacity(), bytes));
    };
    for (int64_t begin = 0; begin < 3000; begin += 50) {
      append(*engine, *sequence, part(tokens, begin, 50));
      check(*sequence);
      // Copies of any length, with any room.
      const int64_t length = engine->restorable(*sequence, begin / 2 + 1);
      for (const int64_t room : {int64_t{0}, int64_t{40}, int64_t{500}}) {
        if (length == 0) continue;
        const auto copy = engine->fork(*sequence, length + room, length);
        check(*copy);
        if (room) append(*engine, *copy, part(tokens, 7, room));
        check(*copy);
      }
    }
    CHECK(bytes < 16 * mebibyte || engine->restorable(*sequence, 1111) == 1111);
  }
}

TEST(snapshots_of_a_window_longer_than_a_block) {
  Config config = family_config("gemma2");
  config.sliding_window = 200;
  const TinyCheckpoint checkpoint(config, {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(config, 2500, 3);
  for (const int64_t bytes : {mebibyte, int64_t{60'000}}) {
    const auto sequence = ended(*engine, tokens, bytes);
    for (const int64_t wanted : {2400, 1500, 1100, 700, 300, 100}) {
      const int64_t length = engine->restorable(*sequence, wanted);
      CHECK(bytes == mebibyte ? length == wanted : length <= wanted);
      const auto copy = engine->fork(*sequence, 3000, length);
      CHECK_EQUAL(copy->length(), length);
      check_goes_on(*engine, *copy, part(tokens, 30, 20), "from " + std::to_string(length));
    }
  }
}

TEST(fork_of_a_beginning_refuses_what_is_gone) {
  const TinyCheckpoint checkpoint(family_config("mistral"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto sequence = ended(*engine, random_tokens(checkpoint.config(), 900, 1), 0);
  CHECK_THROWS(engine->fork(*sequence, 900, 100),
               "[engine.engine] the first 100 tokens of a sequence of 900 were asked for, which it cannot go back to.");
  CHECK_THROWS(engine->fork(*sequence, 2000, 901), "the first 901 tokens of a sequence of 900 were asked for");
  CHECK_THROWS(engine->fork(*sequence, 800), "a copy of a sequence of 900 tokens was asked for with room for 800");
  CHECK_EQUAL(engine->fork(*sequence, 800, 800)->length(), 800);
}

TEST(prefix_cache_gives_what_computing_from_the_start_gives) {
  for (const std::string& family : families())
    for (const CacheType type : {CacheType::bf16, CacheType::f32}) {
      const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0, TensorType::q4_0});
      const auto engine = tiny_engine(checkpoint, 2, type);
      const auto first = random_tokens(checkpoint.config(), 1500, 1), second = random_tokens(checkpoint.config(), 900, 2);
      PrefixCache cache(*engine, 64 * mebibyte);
      cache.keep(ended(*engine, first, cache.snapshot_bytes()));
      cache.keep(ended(*engine, second, cache.snapshot_bytes(), 3000));
      for (const int64_t shared : cases<std::vector<int64_t>>({20, 64, 500, 899, 1499}, {20, 899})) {
        // A prompt that leaves the first text after `shared` tokens, and one that is a part of it.
        std::vector<int32_t> prompt(first.begin(), first.begin() + shared);
        prompt.push_back((first[static_cast<size_t>(shared)] + 1) % 300);
        CHECK_EQUAL(cache.find(prompt), shared);
        for (const std::vector<int32_t>& text : {prompt, std::vector<int32_t>(first.begin(), first.begin() + shared + 1)}) {
          const auto sequence = cache.take(text, 2000);
          CHECK(sequence != nullptr);
          CHECK_EQUAL(sequence->length(), shared);
          CHECK(sequence->capacity() >= 2000);
          check_goes_on(*engine, *sequence, part(text, shared, 1), family + " after " + std::to_string(shared));
        }
      }
      std::vector<int32_t> longer = second;
      longer.insert(longer.end(), first.begin(), first.begin() + 30);
      const auto sequence = cache.take(longer, 1000);
      CHECK_EQUAL(sequence->length(), 900);
      check_goes_on(*engine, *sequence, part(longer, 900, 30), family + ", the second text goes on");
    }
}

TEST(prefix_cache_reuses_nothing_of_little_use) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 100, 1);
  PrefixCache cache(*engine, 64 * mebibyte);
  CHECK(cache.take(tokens, 100) == nullptr);
  cache.keep(ended(*engine, part(tokens, 0, min_reused_tokens - 1), 0));
  CHECK_EQUAL(cache.num_bytes(), 0);
  cache.keep(ended(*engine, tokens, 0));
  CHECK_EQUAL(cache.find({}), 0);
  CHECK_EQUAL(cache.find(part(tokens, 0, min_reused_tokens)), 0);  // its last token is always computed
  CHECK_EQUAL(cache.find(part(tokens, 0, min_reused_tokens + 1)), min_reused_tokens);
  CHECK_EQUAL(cache.find(part(tokens, 1, 90)), 0);
  CHECK(cache.take(part(tokens, 1, 90), 100) == nullptr);
}

TEST(prefix_cache_moves_what_goes_on_and_copies_what_branches) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 200, 1);
  PrefixCache cache(*engine, 64 * mebibyte);
  cache.keep(ended(*engine, part(tokens, 0, 100), 0, 40));
  const int64_t bytes = cache.num_bytes();
  CHECK(cache.take(part(tokens, 0, 51), 120)->length() == 50);
  CHECK_EQUAL(cache.num_bytes(), bytes);
  CHECK(cache.take(part(tokens, 0, 120), 150)->capacity() == 150);  // a copy: the kept one has no room for it
  CHECK_EQUAL(cache.num_bytes(), bytes);
  CHECK(cache.take(part(tokens, 0, 120), 128)->capacity() == 128);  // a copy: the kept one takes more memory
  CHECK_EQUAL(cache.num_bytes(), bytes);
  CHECK(cache.take(part(tokens, 0, 120), 130)->capacity() == 140);  // the kept one itself
  CHECK_EQUAL(cache.num_bytes(), 0);
  // Room that was never used is given back.
  cache.keep(ended(*engine, part(tokens, 0, 100), 0, 3000));
  CHECK_EQUAL(cache.num_bytes(), engine->sequence_bytes(100));
}

TEST(prefix_cache_keeps_a_text_once) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const auto tokens = random_tokens(checkpoint.config(), 200, 1);
  PrefixCache cache(*engine, 64 * mebibyte);
  cache.keep(ended(*engine, part(tokens, 0, 100), 0));
  cache.keep(ended(*engine, part(tokens, 0, 150), 0));  // takes the place of its beginning
  CHECK_EQUAL(cache.num_bytes(), engine->sequence_bytes(150));
  cache.keep(ended(*engine, part(tokens, 0, 60), 0));
  CHECK_EQUAL(cache.num_bytes(), engine->sequence_bytes(150));
  cache.clear();
  CHECK_EQUAL(cache.num_bytes(), 0);
}

TEST(prefix_cache_lets_the_least_recently_used_go) {
  const TinyCheckpoint checkpoint(family_config("gemma3"), {TensorType::q8_0});
  const auto engine = tiny_engine(checkpoint);
  const int64_t each = engine->sequence_bytes(100);
  PrefixCache cache(*engine, 2 * each);
  std::vector<std::vector<int32_t>> texts;
  for (uint64_t seed = 0; seed < 3; ++seed) texts.push_back(random_tokens(checkpoint.config(), 100, seed));
  cache.keep(ended(*engine, texts[0], 0));
  cache.keep(ended(*engine, texts[1], 0));
  CHECK(cache.take(part(texts[0], 0, 50), 100) != nullptr);
  cache.keep(ended(*engine, texts[2], 0));
  CHECK_EQUAL(cache.num_bytes(), 2 * each);
  CHECK_EQUAL(cache.find(texts[0]), 99);
  CHECK_EQUAL(cache.find(texts[1]), 0);
  CHECK_EQUAL(cache.find(texts[2]), 99);
  cache.set_max_bytes(each);
  CHECK_EQUAL(cache.find(texts[0]), 0);
  CHECK_EQUAL(cache.find(texts[2]), 99);
  // Larger than the limit: nothing of it stays. A limit of nothing keeps nothing.
  cache.keep(ended(*engine, random_tokens(checkpoint.config(), 1000, 9), 0));
  CHECK_EQUAL(cache.num_bytes(), 0);
  cache.set_max_bytes(0);
  cache.keep(ended(*engine, texts[0], 0));
  CHECK_EQUAL(cache.num_bytes(), 0);
}

TEST(engine_cancelled_in_a_long_prefill_keeps_the_chunks_before) {
  for (const std::string family : {"gemma", "gemma3"}) {
    const TinyCheckpoint checkpoint(family_config(family), {TensorType::q8_0});
    const auto engine = tiny_engine(checkpoint, 2);
    const auto tokens = random_tokens(checkpoint.config(), 3000, 1);
    const auto sequence = engine->new_sequence(3100), second = engine->new_sequence(100);
    engine->keep_snapshots(*sequence, 16 * mebibyte);
    append(*engine, *sequence, part(tokens, 0, 10));
    std::atomic<bool> cancel{true};
    const Work work[] = {{second.get(), part(tokens, 0, 20)}, {sequence.get(), part(tokens, 10, 2990)}};
    CHECK_THROWS(engine->step(work, &cancel), "[engine.engine] the pass was cancelled.");
    CHECK_EQUAL(sequence->length(), 10);
    CHECK_THROWS(engine->head(0), "work 0 of the last step has no logits");
    // From another thread, later and later until it comes in the middle: whole chunks are there, the rest can follow.
    for (int64_t spins = 1; sequence->length() == 10 || sequence->length() == 3000; spins *= 2) {
      CHECK(spins < int64_t{1} << 40);
      CHECK(engine->truncate(*sequence, 10) && engine->truncate(*second, 0));
      cancel = false;
      std::thread canceller([&cancel, spins] {
        for (std::atomic<int64_t> i = 0; i < spins; ++i) continue;
        cancel = true;
      });
      try {
        engine->step(work, &cancel);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::cancelled);
      }
      canceller.join();
    }
    CHECK_EQUAL(second->length(), 20);
    CHECK(sequence->length() > 10 && sequence->length() < 3000);
    CHECK_EQUAL((sequence->length() - 10 + 20) % max_pass_rows, 0);
    check_goes_on(*engine, *sequence, part(tokens, sequence->length(), 3000 - sequence->length()), family + " after cancelling");
    check_goes_on(*engine, *second, part(tokens, 50, 20), family + ", the other one");
  }
}
