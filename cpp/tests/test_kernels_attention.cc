// Attention of every table and both caches against double precision: gemcut.model.attention.attention.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/kernel_cases.h"

namespace {

using gemcut::AlignedArray;
using gemcut::AttentionArgs;
using gemcut::Kernels;
using gemcut::testing::check_close;
using gemcut::testing::check_same_bits;
using gemcut::testing::Random;

double rounded(float value, bool is_bf16) {
  if (!is_bf16) return value;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  std::memcpy(&value, &bits, 4);
  return value;
}

// One KV head of a text of `length` tokens, kept in a ring of `num_slots`; its first `shared` tokens may lie elsewhere.
struct Cache {
  Cache(const Kernels& table, bool bf16, int64_t head_dim, int64_t slots, int64_t length, Random& random)
      : kernels(table),
        is_bf16(bf16),
        H(head_dim),
        num_slots(slots),
        all_keys(random.floats(length * H, 1.0f)),
        all_values(random.floats(length * H, 1.0f)),
        keys(slots * H * 4),
        values(slots * H * 4) {
    store(0, length);
  }

  // Everything anew: the first `shared` positions in memory of their own.
  void share(int64_t shared) {
    num_shared = shared;
    shared_keys = AlignedArray<std::byte>(shared * H * 4);
    shared_values = AlignedArray<std::byte>(shared * H * 4);
    store(shared, static_cast<int64_t>(all_keys.size()) / H);
  }

  void store(int64_t shared, int64_t length) {
    const auto store_one = is_bf16 ? kernels.store_bf16 : kernels.store_f32;
    for (int64_t p = 0; p < length; ++p) {
      const int64_t slot = p < shared ? p : (p - shared) % num_slots;
      store_one(all_keys.data() + p * H, all_values.data() + p * H, H, slot, (p < shared ? shared_keys : keys).data(),
                (p < shared ? shared_values : values).data());
    }
  }

  const Kernels& kernels;
  const bool is_bf16;
  const int64_t H, num_slots;
  const std::vector<float> all_keys, all_values;  // (length, H)
  AlignedArray<std::byte> keys, values, shared_keys, shared_values;
  int64_t num_shared = 0;
};

struct Queries {
  std::vector<float> vectors;      // (rows, H)
  std::vector<int64_t> positions;  // (rows,)
};

// Rows [first, first + count) in one call.
std::vector<float> attend(const Cache& cache, const Queries& queries, int64_t window, float softcap, int64_t first,
                          int64_t count) {
  std::vector<float> out(static_cast<size_t>(count * cache.H + 1), 77.0f);
  const float* inputs[gemcut::attention_rows];
  float* outputs[gemcut::attention_rows];
  for (int64_t r = 0; r < count; ++r) {
    inputs[r] = queries.vectors.data() + (first + r) * cache.H;
    outputs[r] = out.data() + r * cache.H;
  }
  AlignedArray<float> scratch(gemcut::attention_scratch_floats(cache.H));
  for (int64_t i = 0; i < gemcut::attention_scratch_floats(cache.H); ++i) scratch.data()[i] = NAN;  // not read before it is written
  AttentionArgs args;
  args.keys = cache.keys.data();
  args.values = cache.values.data();
  args.num_slots = cache.num_slots;
  args.shared_keys = cache.shared_keys.data();
  args.shared_values = cache.shared_values.data();
  args.num_shared = cache.num_shared;
  args.head_dim = cache.H;
  args.window = window;
  args.softcap = softcap;
  args.queries = inputs;
  args.outputs = outputs;
  args.positions = queries.positions.data() + first;
  args.num_rows = count;
  args.scratch = scratch.data();
  (cache.is_bf16 ? cache.kernels.attention_bf16 : cache.kernels.attention_f32)(args);
  CHECK_EQUAL(out.back(), 77.0f);
  out.pop_back();
  return out;
}

// One row as its definition says; checks against `found` (H,).
void check_row(const std::string& where, const Cache& cache, const float* query, int64_t position, int64_t window,
               float softcap, const float* found) {
  const int64_t H = cache.H, begin = window ? std::max<int64_t>(0, position - window + 1) : 0;
  std::vector<double> weights(static_cast<size_t>(position + 1 - begin)), out(static_cast<size_t>(H)), sizes(out);
  double largest = -1e300, total = 0;
  for (int64_t p = begin; p <= position; ++p) {
    double score = 0;
    for (int64_t h = 0; h < H; ++h)
      score += rounded(query[h], cache.is_bf16) * rounded(cache.all_keys[static_cast<size_t>(p * H + h)], cache.is_bf16);
    if (softcap > 0) score = softcap * std::tanh(score / softcap);
    weights[static_cast<size_t>(p - begin)] = score;
    largest = std::max(largest, score);
  }
  for (double& weight : weights) total += weight = std::exp(weight - largest);
  for (int64_t p = begin; p <= position; ++p)
    for (int64_t h = 0; h < H; ++h) {
      const double part = weights[static_cast<size_t>(p - begin)] / total *
                          rounded(cache.all_values[static_cast<size_t>(p * H + h)], cache.is_bf16);
      out[static_cast<size_t>(h)] += part;
      sizes[static_cast<size_t>(h)] += std::abs(part);
    }
  // A bfloat16 cache takes weights in bfloat16 too: half of 2^-7 of each.
  const double relative = cache.is_bf16 ? 0x1p-8 + 2e-5 : 2e-5;
  for (int64_t h = 0; h < H; ++h)
    check_close(where + ", number " + std::to_string(h), found[h], out[static_cast<size_t>(h)], relative * sizes[static_cast<size_t>(h)] + 1e-7);
}

// Queries of `num_positions` positions up to the last one, two heads each.
Queries last_queries(int64_t length, int64_t num_positions, int64_t H, Random& random) {
  Queries queries;
  // Scores reach about +-6.
  queries.vectors = random.floats(2 * num_positions * H, 18.0f / std::sqrt(static_cast<float>(H)));
  for (int64_t r = 0; r < 2 * num_positions; ++r) queries.positions.push_back(length - num_positions + r / 2);
  return queries;
}

void check_case(const Kernels& kernels, bool is_bf16, int64_t H, int64_t window, float softcap, int64_t length, Random& random) {
  const std::string where = std::string(kernels.name) + (is_bf16 ? " bf16" : " f32") + " H " + std::to_string(H) +
                            " window " + std::to_string(window) + " cap " + std::to_string(softcap) + " length " + std::to_string(length);
  // Room for the window and the positions of one call, as a sequence's ring has it.
  const int64_t block = gemcut::attention_block;
  const int64_t slots = ((window ? std::min(window + 4, length) : length) + block - 1) / block * block;
  const Cache cache(kernels, is_bf16, H, slots, length, random);
  const Queries queries = last_queries(length, std::min<int64_t>(4, length), H, random);
  const int64_t rows = static_cast<int64_t>(queries.positions.size());
  const std::vector<float> together = attend(cache, queries, window, softcap, 0, rows);
  for (int64_t r = 0; r < rows; ++r)
    check_row(where + ", row " + std::to_string(r), cache, queries.vectors.data() + r * H, queries.positions[static_cast<size_t>(r)], window,
              softcap, together.data() + r * H);
  for (int64_t count = 1; count < rows; ++count)
    for (int64_t first = 0; first + count <= rows; first += count) {
      const std::vector<float> some = attend(cache, queries, window, softcap, first, count);
      check_same_bits(where + ", " + std::to_string(count) + " rows from " + std::to_string(first), some.data(),
                      together.data() + first * H, count * H);
    }
}

}  // namespace

TEST(kernels_attention_equals_double_precision_and_does_not_depend_on_the_rows_of_a_call) {
  Random random(21);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (const bool is_bf16 : {true, false})
      for (const int64_t H : {2, 6, 16, 40, 64, 128, 256})
        for (const int64_t window : {0, 1, 5, 64})
          for (const float softcap : {0.0f, 5.0f})
            for (const int64_t length : {int64_t{1}, int64_t{66}, H > 64 ? int64_t{150} : int64_t{330}})
              check_case(*kernels, is_bf16, H, window, softcap, length, random);
}

TEST(kernels_attention_with_a_window_of_512_in_a_ring_that_wrapped_twice) {
  Random random(22);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (const bool is_bf16 : {true, false})
      for (const int64_t length : {511, 512, 513, 1100}) check_case(*kernels, is_bf16, 16, 512, 0.0f, length, random);
}

TEST(kernels_attention_straddles_every_place_of_a_block) {
  Random random(23);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (int64_t length = 60; length < 135; ++length) {
      check_case(*kernels, true, 16, 7, 0.0f, length, random);
      check_case(*kernels, false, 6, 0, 0.0f, length, random);
    }
}

TEST(kernels_attention_of_a_beginning_that_lies_elsewhere_has_the_same_bits) {
  Random random(26);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (const bool is_bf16 : {true, false})
      for (const int64_t H : {6, 64})
        for (const int64_t window : {0, 100})
          for (const int64_t length : {int64_t{64}, int64_t{65}, int64_t{200}}) {
            const std::string where = std::string(kernels->name) + " window " + std::to_string(window) + " length " + std::to_string(length);
            Cache cache(*kernels, is_bf16, H, 256, length, random);
            const Queries queries = last_queries(length, 4, H, random);
            const std::vector<float> plain = attend(cache, queries, window, 0.0f, 0, 8);
            for (const int64_t shared : {64, 128, 192}) {
              cache.share(shared);
              const std::vector<float> found = attend(cache, queries, window, 0.0f, 0, 8);
              check_same_bits(where + " shared " + std::to_string(shared), found.data(), plain.data(), 8 * H);
            }
          }
}

TEST(kernels_attention_of_scores_that_are_far_apart) {
  Random random(24);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (const bool is_bf16 : {true, false}) {
      const int64_t H = 16, length = 200;
      const Cache cache(*kernels, is_bf16, H, 256, length, random);
      // The key that all weight goes to, and its neighbours that get none.
      for (const int64_t best : {0, 63, 64, 150, 199}) {
        Queries queries;
        queries.positions = {199};
        for (int64_t h = 0; h < H; ++h) queries.vectors.push_back(cache.all_keys[static_cast<size_t>(best * H + h)] * 1e4f);
        const std::vector<float> out = attend(cache, queries, 0, 0.0f, 0, 1);
        check_row(std::string(kernels->name) + " best " + std::to_string(best), cache, queries.vectors.data(), 199, 0, 0.0f, out.data());
      }
    }
}

TEST(kernels_store_writes_only_its_slot) {
  Random random(25);
  for (const Kernels* kernels : gemcut::testing::runnable_tables())
    for (const bool is_bf16 : {true, false})
      for (const int64_t H : {2, 6, 16, 40, 64}) {
        Cache cache(*kernels, is_bf16, H, 64, 64, random);
        const int64_t bytes = 64 * H * (is_bf16 ? 2 : 4);
        const std::vector<std::byte> keys(cache.keys.data(), cache.keys.data() + bytes);
        const std::vector<std::byte> values(cache.values.data(), cache.values.data() + bytes);
        const std::vector<float> key = random.floats(H, 1.0f), value = random.floats(H, 1.0f);
        const auto store = is_bf16 ? kernels->store_bf16 : kernels->store_f32;
        store(key.data(), value.data(), H, 21, cache.keys.data(), cache.values.data());
        CHECK(std::memcmp(keys.data(), cache.keys.data(), static_cast<size_t>(bytes)) != 0);
        CHECK(std::memcmp(values.data(), cache.values.data(), static_cast<size_t>(bytes)) != 0);
        // What was there before, put back, leaves all as it was.
        store(cache.all_keys.data() + 21 * H, cache.all_values.data() + 21 * H, H, 21, cache.keys.data(), cache.values.data());
        CHECK(std::memcmp(keys.data(), cache.keys.data(), static_cast<size_t>(bytes)) == 0);
        CHECK(std::memcmp(values.data(), cache.values.data(), static_cast<size_t>(bytes)) == 0);
      }
}
