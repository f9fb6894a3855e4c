// The kernels over rows of every table against double precision.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernel_cases.h"

namespace {

using gemcut::Kernels;
using gemcut::testing::check_close;
using gemcut::testing::fail_at;
using gemcut::testing::Random;
using gemcut::testing::runnable_tables;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// What quantise() or, with scales of 256 columns, quantise_wide() makes of a row.
struct Quantised {
  Quantised(const Kernels& kernels, const std::vector<float>& x, int64_t columns_of_scale = 32, bool turned = false)
      : scale_columns(static_cast<size_t>(columns_of_scale)), q8(x.size(), 99), scale(x.size() / scale_columns, -1.0f),
        minus_scaled_sum(x.size() / 32), minus_sum(x.size() / 32, 99), minus_sum16(x.size() / 16, 99), sum(x.size() / 32, 99),
        sum16(x.size() / 16, 99) {
    gemcut::QuantisedRow out;
    out.q8 = q8.data();
    out.scale = scale.data();
    out.minus_sum = minus_sum.data();
    out.minus_sum16 = minus_sum16.data();
    out.sum = sum.data();
    out.sum16 = sum16.data();
    out.turned = turned;
    if (columns_of_scale == 32) out.minus_scaled_sum = minus_scaled_sum.data();
    (columns_of_scale == 32 ? kernels.quantise : kernels.quantise_wide)(x.data(), static_cast<int64_t>(x.size()), out);
  }
  size_t scale_columns;
  std::vector<int8_t> q8;
  std::vector<float> scale, minus_scaled_sum;
  std::vector<int32_t> minus_sum, minus_sum16;
  std::vector<int16_t> sum, sum16;
};

std::string at(const Kernels& kernels, const char* what, int64_t index) {
  return std::string(kernels.name) + " " + what + "[" + std::to_string(index) + "]";
}

void check_sums(const Kernels& kernels, const Quantised& row) {
  for (size_t block = 0; block < row.minus_sum.size(); ++block) {
    int32_t halves[2] = {};
    for (size_t i = 0; i < 32; ++i) {
      CHECK(row.q8[block * 32 + i] >= -127);
      halves[i / 16] -= row.q8[block * 32 + i];
    }
    CHECK_EQUAL(row.minus_sum16[2 * block], halves[0]);
    CHECK_EQUAL(row.minus_sum16[2 * block + 1], halves[1]);
    CHECK_EQUAL(row.minus_sum[block], halves[0] + halves[1]);
    CHECK_EQUAL(row.sum[block], -halves[0] - halves[1]);
    for (size_t half = 0; half < 2; ++half) CHECK_EQUAL(row.sum16[2 * block + half], -halves[half]);
    if (row.scale_columns > 32) continue;
    const float scaled = row.scale[block] * static_cast<float>(row.minus_sum[block]);
    if (std::bit_cast<uint32_t>(row.minus_scaled_sum[block]) != std::bit_cast<uint32_t>(scaled))
      fail_at(at(kernels, "minus_scaled_sum", static_cast<int64_t>(block)), row.minus_scaled_sum[block], scaled);
  }
}

uint16_t nearest_even(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

const int64_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 255, 640, 1000};

}  // namespace

TEST(kernels_quantise_is_within_half_a_step_and_its_sums_are_exact) {
  Random random(11);
  for (const Kernels* kernels : runnable_tables())
    for (const float largest : {1.0f, 3e-30f, 1e-5f, 1000.0f, 1e30f, 1.5e38f}) {
      const std::vector<float> x = random.floats(768, largest);
      for (const size_t columns : {size_t{32}, size_t{256}}) {
        const Quantised row(*kernels, x, static_cast<int64_t>(columns));
        check_sums(*kernels, row);
        for (size_t i = 0; i < x.size(); ++i) {
          const double step = row.scale[i / columns];
          check_close(at(*kernels, "quantise", static_cast<int64_t>(i)), step * row.q8[i], x[i], step * 0.50001);
        }
        for (size_t one = 0; one < row.scale.size(); ++one) {
          float wanted = 0;
          for (size_t i = 0; i < columns; ++i) wanted = std::max(wanted, std::abs(x[one * columns + i]));
          CHECK_EQUAL(row.scale[one], wanted / 127.0f);
        }
      }
    }
}

TEST(kernels_quantise_turned_is_128_more_as_unsigned_bytes) {
  Random random(14);
  for (const Kernels* kernels : runnable_tables()) {
    if (!kernels->panel_rows) continue;  // such tables never turn
    std::vector<float> x = random.floats(512, 2.0f);
    x[40] = not_a_number;
    for (const int64_t columns : {32, 256}) {
      const Quantised row(*kernels, x, columns), turned(*kernels, x, columns, true);
      for (size_t i = 0; i < x.size(); ++i) CHECK_EQUAL(static_cast<uint8_t>(turned.q8[i]), row.q8[i] + 128);
      CHECK(turned.scale == row.scale || std::isnan(row.scale[columns == 32 ? 1 : 0]));
      CHECK(turned.sum == row.sum && turned.sum16 == row.sum16 && turned.minus_sum == row.minus_sum);
    }
  }
}

TEST(kernels_quantise_keeps_whole_numbers_of_steps) {
  for (const Kernels* kernels : runnable_tables()) {
    std::vector<float> x(256);
    for (size_t i = 0; i < 256; ++i) x[i] = static_cast<float>(static_cast<int>(i) - 128 + (i == 0));
    x[31] = x[63] = x[95] = x[127] = 127.0f;
    x[128] = x[160] = x[192] = x[224] = -127.0f;
    const Quantised row(*kernels, x);
    for (size_t i = 0; i < 256; ++i) CHECK_EQUAL(static_cast<float>(row.q8[i]), x[i]);
    check_sums(*kernels, row);
  }
}

TEST(kernels_quantise_of_zeros_and_numbers_too_small_is_zero) {
  for (const Kernels* kernels : runnable_tables()) {
    std::vector<float> x(96, 0.0f);
    for (size_t i = 0; i < 32; ++i) x[i] = -0.0f;
    for (size_t i = 64; i < 96; ++i) x[i] = i % 2 ? 1e-40f : -1e-44f;  // 127 / x would be infinite
    const Quantised row(*kernels, x);
    check_sums(*kernels, row);
    for (size_t i = 0; i < 96; ++i) check_close(at(*kernels, "quantise", static_cast<int64_t>(i)), row.scale[i / 32] * row.q8[i], x[i], 1e-36);
    CHECK_EQUAL(row.scale[0], 0.0f);
    CHECK_EQUAL(row.scale[1], 0.0f);
  }
}

TEST(kernels_quantise_of_infinities_and_nans_spoils_only_their_block) {
  for (const Kernels* kernels : runnable_tables())
    for (const float strange : {infinity, -infinity, not_a_number, -not_a_number})
      for (size_t place = 32; place < 64; ++place) {
        std::vector<float> x(96);
        for (size_t i = 0; i < 96; ++i) x[i] = static_cast<float>(i % 32) - 16.0f;
        x[place] = strange;
        const Quantised row(*kernels, x);
        for (const size_t block : {size_t{0}, size_t{2}})
          for (size_t i = 0; i < 32; ++i)
            check_close(at(*kernels, "quantise", static_cast<int64_t>(i)), row.scale[block] * row.q8[block * 32 + i], x[block * 32 + i], 0.07);
        int32_t sum = 0;
        for (size_t i = 32; i < 64; ++i) sum -= row.q8[i];
        CHECK_EQUAL(row.minus_sum[1], sum);
      }
}

TEST(kernels_to_bf16_rounds_to_nearest_and_ties_to_even) {
  Random random(12);
  for (const Kernels* kernels : runnable_tables()) {
    for (const int64_t count : lengths) {
      std::vector<float> x(static_cast<size_t>(count));
      for (float& value : x)  // any normal number
        value = std::bit_cast<float>(static_cast<uint32_t>((random.bits() & 0x807fffff) | (1 + random.bits() % 253) << 23));
      x[0] = std::bit_cast<float>(0x3f808000u);  // a tie that goes down
      if (count > 1) x[1] = std::bit_cast<float>(0x3f818000u);  // and one that goes up
      std::vector<uint16_t> out(x.size() + 1, 0xabcd);
      kernels->to_bf16(x.data(), count, out.data());
      for (size_t i = 0; i < x.size(); ++i) CHECK_EQUAL(out[i], nearest_even(x[i]));
      CHECK_EQUAL(out[x.size()], 0xabcd);
    }
    const float special[] = {0.0f, -0.0f, infinity, -infinity};
    uint16_t out[4];
    kernels->to_bf16(special, 4, out);
    CHECK(out[0] == 0x0000 && out[1] == 0x8000 && out[2] == 0x7f80 && out[3] == 0xff80);
  }
}

// gemcut.model.norm.rms_norm
TEST(kernels_rms_norm_equals_double_precision) {
  Random random(13);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths)
      for (const float largest : {1e-6f, 1.0f, 1e6f}) {
        const std::vector<float> x = random.floats(count, largest), gain = random.floats(count, 2.0f);
        std::vector<float> out(x.size() + 1, 77.0f), in_place = x;
        kernels->rms_norm(x.data(), gain.data(), 1e-6f, count, out.data());
        kernels->rms_norm(in_place.data(), gain.data(), 1e-6f, count, in_place.data());
        double squares = 0;
        for (const float value : x) squares += static_cast<double>(value) * value;
        const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(count) + 1e-6f);
        for (size_t i = 0; i < x.size(); ++i) {
          const double wanted = x[i] * inverse * gain[i];
          check_close(at(*kernels, "rms_norm", static_cast<int64_t>(i)), out[i], wanted, std::abs(wanted) * 1e-5);
          CHECK_EQUAL(in_place[i], out[i]);
        }
        CHECK_EQUAL(out[x.size()], 77.0f);
      }
}

TEST(kernels_add_and_scale_round_once) {
  Random random(14);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths) {
      const std::vector<float> x = random.floats(count, 3.0f), y = random.floats(count, 5.0f);
      std::vector<float> sum = x, scaled = x;
      sum.push_back(77.0f);
      scaled.push_back(77.0f);
      kernels->add(sum.data(), y.data(), count);
      kernels->scale(scaled.data(), 0.3f, count);
      for (size_t i = 0; i < x.size(); ++i) {
        CHECK_EQUAL(sum[i], x[i] + y[i]);
        CHECK_EQUAL(scaled[i], x[i] * 0.3f);
      }
      CHECK(sum.back() == 77.0f && scaled.back() == 77.0f);
    }
}

// gemcut.model.rope.apply_rope
TEST(kernels_rope_turns_halves) {
  Random random(15);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t head_dim : {2, 6, 16, 32, 40, 64, 96, 128, 256}) {
      const size_t half = static_cast<size_t>(head_dim / 2);
      const std::vector<float> x = random.floats(head_dim, 2.0f);
      std::vector<float> cos(half), sin(half), turned = x;
      for (size_t i = 0; i < half; ++i) {
        const float angle = random.uniform(-10, 10);
        cos[i] = std::cos(angle);
        sin[i] = std::sin(angle);
      }
      kernels->rope(turned.data(), cos.data(), sin.data(), head_dim);
      for (size_t i = 0; i < half; ++i) {
        const double a = x[i], b = x[half + i];
        check_close(at(*kernels, "rope", static_cast<int64_t>(i)), turned[i], a * cos[i] - b * sin[i], 1e-6);
        check_close(at(*kernels, "rope", static_cast<int64_t>(half + i)), turned[half + i], b * cos[i] + a * sin[i], 1e-6);
      }
    }
}

// gemcut.model.feed_forward: gelu_pytorch_tanh and silu
TEST(kernels_gated_activations_equal_double_precision) {
  std::vector<float> gate;
  for (float x = -20.0f; x < 20.0f; x += 0.0625f) gate.push_back(x);
  for (const float x : {-1e20f, -1000.0f, -200.0f, -100.0f, -90.0f, -88.0f, -87.0f, 87.0f, 88.0f, 89.0f, 200.0f, 1000.0f, 1e20f, 0.0f, -0.0f, 1e-40f})
    gate.push_back(x);
  const int64_t count = static_cast<int64_t>(gate.size());
  CHECK_EQUAL(count % 16, 0);
  Random random(16);
  const std::vector<float> up = random.floats(count, 1.0f);
  std::vector<float> gelu(gate.size()), silu(gate.size());
  for (const Kernels* kernels : runnable_tables()) {
    kernels->gated_gelu(gate.data(), up.data(), count, gelu.data());
    kernels->gated_silu(gate.data(), up.data(), count, silu.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double x = gate[i];
      const double gelu_wanted = x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) * up[i];
      const double silu_wanted = x / (1 + std::exp(-x)) * up[i];
      // An exponent of size 40 carries an error of 40 * 2^-24.
      check_close(at(*kernels, "gated_gelu", static_cast<int64_t>(i)), gelu[i], gelu_wanted, std::abs(gelu_wanted) * 2e-5 + 1e-17);
      check_close(at(*kernels, "gated_silu", static_cast<int64_t>(i)), silu[i], silu_wanted, std::abs(silu_wanted) * 2e-6 + 1e-17);
    }
  }
}

TEST(kernels_softcap_equals_double_precision) {
  Random random(17);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths)
      for (const float cap : {30.0f, 50.0f}) {
        std::vector<float> x = random.floats(count, 200.0f);
        x[0] = 1e30f;
        if (count > 2) x[1] = -1e30f, x[2] = 0.0f;
        std::vector<float> capped = x;
        capped.push_back(77.0f);
        kernels->softcap(capped.data(), cap, count);
        for (size_t i = 0; i < x.size(); ++i)
          check_close(at(*kernels, "softcap", static_cast<int64_t>(i)), capped[i], cap * std::tanh(static_cast<double>(x[i]) / cap), cap * 3e-7);
        CHECK_EQUAL(capped.back(), 77.0f);
      }
}

TEST(kernels_arg_max_takes_the_lowest_index_of_equals) {
  Random random(18);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths)
      for (int trial = 0; trial < 8; ++trial) {
        std::vector<float> x = random.floats(count, 2.0f);
        const int64_t first = random.below(count), second = first + random.below(count - first);
        const float top = trial < 4 ? 5.0f : -0.0f;
        if (trial >= 4)
          for (float& value : x) value = -1.0f - std::abs(value);
        x[static_cast<size_t>(first)] = x[static_cast<size_t>(second)] = top;
        float max = 0;
        int64_t index = -1;
        kernels->arg_max(x.data(), count, &max, &index);
        CHECK_EQUAL(max, top);
        CHECK_EQUAL(index, first);
      }
}

TEST(kernels_arg_max_of_rows_that_are_minus_infinity) {
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths) {
      std::vector<float> x(static_cast<size_t>(count), -infinity);
      float max = 0;
      int64_t index = -1;
      kernels->arg_max(x.data(), count, &max, &index);
      CHECK(max == -infinity && index == 0);
      x.back() = -3e38f;
      kernels->arg_max(x.data(), count, &max, &index);
      CHECK(max == -3e38f && index == count - 1);
    }
}

TEST(kernels_largest_sum_equals_double_precision) {
  Random random(20);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : {16, 32, 1024})
      for (const float factor : {0.0f, 1.5f, 300.0f}) {
        const std::vector<float> x = random.floats(count, 3.0f);
        const auto norms = gemcut::testing::random_stored(gemcut::TensorType::f16, 1, count, -2, random);
        std::vector<float> norm(x.size());
        gemcut::dequantize_row(gemcut::TensorType::f16, norms.data(), count, norm.data());
        double wanted = -1e300;
        for (size_t i = 0; i < x.size(); ++i) wanted = std::max(wanted, x[i] + static_cast<double>(factor) * norm[i]);
        check_close(at(*kernels, "largest_sum", count), kernels->largest_sum(x.data(), norms.data(), factor, count), wanted,
                    std::abs(wanted) * 2.5e-7);
      }
}

TEST(kernels_sum_exp_equals_double_precision) {
  Random random(19);
  for (const Kernels* kernels : runnable_tables())
    for (const int64_t count : lengths)
      for (const float largest : {0.5f, 20.0f, 1000.0f}) {
        const std::vector<float> x = random.floats(count, largest);
        const float max = *std::max_element(x.begin(), x.end());
        double wanted = 0;
        for (const float value : x) wanted += std::exp(static_cast<double>(value) - max);
        check_close(at(*kernels, "sum_exp", count), kernels->sum_exp(x.data(), max, count), wanted, wanted * 3e-6);
      }
}

TEST(kernels_sum_exp_at_the_ends_of_its_range) {
  for (const Kernels* kernels : runnable_tables()) {
    // One number at a time, every 1/8 over the whole range; the error of e^x is 2 units in the last place.
    for (float x = 0.0f; x > -87.0f; x -= 0.125f) {
      const double wanted = std::exp(static_cast<double>(x));
      check_close(at(*kernels, "exp", static_cast<int64_t>(x)), kernels->sum_exp(&x, 0.0f, 1), wanted, wanted * 2.5e-7);
    }
    for (const float x : {-87.4f, -90.0f, -1e30f, -infinity}) check_close(at(*kernels, "exp", -88), kernels->sum_exp(&x, 0.0f, 1), 0.0, 2e-38);
    const float high = 87.9f;
    check_close(at(*kernels, "exp", 87), kernels->sum_exp(&high, 0.0f, 1), std::exp(static_cast<double>(high)), std::exp(87.9) * 2.5e-7);
  }
}
