// Where keys and values lie, and how much memory they take.
#include "engine/sequence.h"

#include <algorithm>
#include <cstring>

#include "formats/error.h"
#include "tests/tiny_model.h"

namespace {

using namespace gemcut;
using gemcut::testing::family_config;

std::shared_ptr<CacheMemory> new_memory() { return std::make_shared<CacheMemory>(); }

}  // namespace

TEST(sequence_slots_are_all_positions_or_a_ring) {
  const Config config = family_config("gemma3");  // 5 sliding layers with a window of 8, 1 full one; K 2, H 16
  const CacheGeometry small(config, CacheType::bf16, 100), large(config, CacheType::f32, 3000);
  for (size_t layer = 0; layer < 6; ++layer) {
    CHECK_EQUAL(small.slots[layer], 128);
    // The window and the tokens of one pass, in whole blocks.
    CHECK_EQUAL(large.slots[layer], layer < 5 ? 320 : 3008);
    CHECK_EQUAL(large.head_bytes(layer), large.slots[layer] * 16 * 4);
  }
  CHECK_EQUAL(small.capacity, 100);
  CHECK_EQUAL(small.bytes, 2 * 2 * 6 * 128 * 16 * 2);
  CHECK_EQUAL(large.bytes, 2 * 2 * (5 * 320 + 3008) * 16 * 4);
  for (size_t layer = 1; layer < 6; ++layer)
    CHECK_EQUAL(large.layer_offset[layer], large.layer_offset[layer - 1] + 2 * 2 * large.head_bytes(layer - 1));
}

TEST(sequence_too_long_for_any_machine_is_refused) {
  Config config = family_config("gemma3");
  for (const int64_t max_tokens : {int64_t{1} << 48, int64_t{1} << 60, INT64_MAX}) {
    config.num_key_value_heads = 1 << 20;
    CHECK_THROWS(CacheGeometry(config, CacheType::f32, max_tokens), "[engine.sequence] a sequence of " + std::to_string(max_tokens) +
                 " tokens needs more memory than any machine has. Take a smaller context.");
  }
  config = family_config("mistral");
  config.sliding_window = INT64_MAX;
  CHECK_EQUAL(CacheGeometry(config, CacheType::bf16, 100).slots[0], 128);
}

TEST(sequence_heads_do_not_overlap) {
  const Config config = family_config("gemma2");
  CpuSequence sequence(config, CacheType::bf16, 700, new_memory());
  int8_t mark = 1;
  const auto each_head = [&](auto use) {
    for (size_t layer = 0; layer < 2; ++layer)
      for (int64_t head = 0; head < 2; ++head) {
        const size_t bytes = static_cast<size_t>(sequence.slots(layer) * 16 * 2);
        use(sequence.keys(layer, head), bytes);
        use(sequence.values(layer, head), bytes);
      }
  };
  each_head([&](std::byte* at, size_t bytes) { std::memset(at, mark++, bytes); });
  mark = 1;
  each_head([&](std::byte* at, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) CHECK(at[i] == static_cast<std::byte>(mark));
    ++mark;
  });
  CHECK_EQUAL(sequence.num_bytes(), 2 * 2 * (320 + 704) * 16 * 2);
}

TEST(sequence_memory_comes_back_clean) {
  const Config config = family_config("gemma2");
  const auto memory = new_memory();
  const std::vector<int32_t> tokens(650, 7);
  std::byte* first = nullptr;
  for (int round = 0; round < 3; ++round) {
    CpuSequence sequence(config, CacheType::bf16, 700, memory);
    // Round after round the same memory, zero whatever was written.
    if (first) CHECK(sequence.keys(0, 0) == first);
    first = sequence.keys(0, 0);
    for (int64_t i = 0; i < sequence.num_bytes(); ++i) CHECK(first[i] == std::byte{0});
    sequence.append(tokens);
    for (size_t layer = 0; layer < 2; ++layer)
      for (int64_t head = 0; head < 2; ++head)
        for (std::byte* part : {sequence.keys(layer, head), sequence.values(layer, head)})
          std::memset(part, 0xff, static_cast<size_t>(std::min<int64_t>(656, sequence.slots(layer)) * 16 * 2));
    // Also where the text was forgotten before the end.
    if (round == 1) CHECK(sequence.truncate(0));
  }
}

TEST(sequence_memory_waits_within_its_limit) {
  const Config config = family_config("gemma2");
  const auto memory = new_memory();
  const int64_t small = CacheGeometry(config, CacheType::bf16, 64).bytes, large = CacheGeometry(config, CacheType::bf16, 700).bytes;
  { const CpuSequence one(config, CacheType::bf16, 64, memory), two(config, CacheType::bf16, 700, memory); }
  CHECK_EQUAL(memory->num_bytes(), small + large);
  memory->set_max_bytes(large);
  CHECK_EQUAL(memory->num_bytes(), large);
  { const CpuSequence one(config, CacheType::bf16, 64, memory); }
  CHECK_EQUAL(memory->num_bytes(), large);
  { const CpuSequence two(config, CacheType::bf16, 700, memory); CHECK_EQUAL(memory->num_bytes(), 0); }
  CHECK_EQUAL(memory->num_bytes(), large);
  memory->set_max_bytes(0);
  CHECK_EQUAL(memory->num_bytes(), 0);
}

TEST(sequence_tokens_grow_and_shrink) {
  CpuSequence sequence(family_config("gemma"), CacheType::f32, 100, new_memory());
  CHECK_EQUAL(sequence.length(), 0);
  CHECK_EQUAL(sequence.capacity(), 100);
  const std::vector<int32_t> tokens = {5, 6, 7};
  sequence.append(tokens);
  sequence.append(std::span(tokens).subspan(1));
  CHECK((sequence.token_ids() == std::vector<int32_t>{5, 6, 7, 6, 7}));
  CHECK(!sequence.truncate(6) && !sequence.truncate(-1));
  CHECK_EQUAL(sequence.length(), 5);
  CHECK(sequence.truncate(2));
  CHECK((sequence.token_ids() == std::vector<int32_t>{5, 6}));
}
