// `gemcut-engine bench`: how fast a model is here. Python: gemcut.inspect.bench.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/terminal.h"
#include "engine/machine.h"
#include "formats/json.h"
#include "formats/message.h"
#include "kernels/kernels.h"

namespace gemcut::cli {
namespace {

constexpr int kRepeats = 3;  // after one run that warms up

struct Plan {
  int64_t prompt_tokens, decode_tokens, depth, batch;
};

struct Run {
  double prefill, first_token, decode;  // seconds
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Ids that differ from row to row, the reserved ones left out.
std::vector<int32_t> made_up_ids(int64_t count, int64_t row, int64_t vocab_size) {
  std::vector<int32_t> token_ids;
  uint64_t state = static_cast<uint64_t>(row) + 1;
  const int64_t first = std::min<int64_t>(3, vocab_size - 1);
  const auto choices = static_cast<uint64_t>(vocab_size - first);
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
    token_ids.push_back(static_cast<int32_t>(first + static_cast<int64_t>((state >> 33) % choices)));
  }
  return token_ids;
}

void step(Engine& engine, const std::vector<std::unique_ptr<Sequence>>& sequences,
          const std::vector<std::vector<int32_t>>& token_ids) {
  std::vector<Work> work;
  for (size_t i = 0; i < sequences.size(); ++i) work.push_back({sequences[i].get(), token_ids[i]});
  engine.step(work, nullptr, true);
}

Run timed(Engine& engine, const Plan& plan) {
  const int64_t vocab_size = engine.config().vocab_size;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<std::vector<int32_t>> depth, prompt, next(static_cast<size_t>(plan.batch));
  for (int64_t row = 0; row < plan.batch; ++row) {
    sequences.push_back(engine.new_sequence(plan.depth + plan.prompt_tokens + plan.decode_tokens + 1));
    const auto ids = made_up_ids(plan.depth + plan.prompt_tokens, row, vocab_size);
    depth.emplace_back(ids.begin(), ids.begin() + plan.depth);
    prompt.emplace_back(ids.begin() + plan.depth, ids.end());
  }
  if (plan.depth) step(engine, sequences, depth);
  const double begin = now();
  step(engine, sequences, prompt);
  const double prefilled = now();
  const auto choose = [&] {
    for (size_t row = 0; row < next.size(); ++row) next[row] = {engine.head(row).best_token_id};
  };
  choose();
  const double first = now();
  for (int64_t i = 0; i < plan.decode_tokens; ++i) {
    step(engine, sequences, next);
    choose();
  }
  return {prefilled - begin, first - begin, now() - first};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One figure: its JSON key, its value as JSON, and for people a label and a text.
struct Figure {
  std::string key, json, label, text;
};

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

std::vector<Figure> figures(const Model& model, const Plan& plan, const std::vector<Run>& runs, bool quiet) {
  std::vector<double> prefills, firsts, decodes;
  for (const Run& run : runs) {
    prefills.push_back(run.prefill);
    firsts.push_back(run.first_token);
    decodes.push_back(run.decode);
  }
  const Engine& engine = *model.engine;
  const int64_t memory = peak_memory_bytes();
  print_notice("Measuring what the machine could do at most ...", quiet);
  const double bandwidth = measured_read_bandwidth(engine.num_threads());
  const double int8_rate = int8_peak_mac_per_second(engine.num_threads());
  const double steps = static_cast<double>(plan.decode_tokens) / median(decodes);
  const double prefill = static_cast<double>(plan.batch * plan.prompt_tokens) / median(prefills);
  const double decode = static_cast<double>(plan.batch) * steps;
  const double of_bandwidth = steps * static_cast<double>(engine.weight_bytes_per_token()) / bandwidth;
  const double of_int8 = prefill * static_cast<double>(engine.multiply_adds_per_token()) / int8_rate;
  const std::string unit =
      plan.batch == 1 ? " tokens/s" : message(" tokens/s, all ", plan.batch, " sequences together");
  const auto percent = [](double share) { return fixed(100 * share, 1) + " %"; };
  const auto whole = [](const char* key, int64_t value) { return Figure{key, message(value), key, message(value)}; };
  return {
      {"model", json_text(model.path), "model", model.path},
      {"engine", "\"native\"", "engine", "native"},
      {"isa", json_text(engine.isa()), "isa", engine.isa()},
      {"dtype", json_text(engine.dtype()), "dtype", engine.dtype()},
      whole("threads", engine.num_threads()),
      whole("prompt_tokens", plan.prompt_tokens),
      whole("decode_tokens", plan.decode_tokens),
      whole("depth", plan.depth),
      whole("batch", plan.batch),
      whole("repeats", kRepeats),
      {"prefill_tokens_per_second", json_number(prefill), "prefill", fixed(prefill, 1) + unit},
      {"decode_tokens_per_second", json_number(decode), "decode", fixed(decode, 1) + unit},
      {"time_to_first_token_seconds", json_number(median(firsts)), "first token", fixed(median(firsts), 3) + " s"},
      {"load_seconds", json_number(model.load_seconds), "load", fixed(model.load_seconds, 2) + " s"},
      {"peak_memory_bytes", message(memory), "peak memory", fixed(static_cast<double>(memory) / (1 << 20), 0) + " MiB"},
      whole("weight_bytes_per_token", engine.weight_bytes_per_token()),
      {"memory_bandwidth_bytes_per_second", json_number(bandwidth), "memory bandwidth",
       fixed(bandwidth / 1e9, 1) + " GB/s measured"},
      {"decode_bandwidth_share", json_number(of_bandwidth), "decode uses",
       percent(of_bandwidth) + " of it for weights"},
      {"int8_multiply_adds_per_second", json_number(int8_rate), "peak int8",
       fixed(int8_rate / 1e9, 0) + " billion multiply-adds/s measured"},
      {"prefill_int8_share", json_number(of_int8), "prefill uses", percent(of_int8) + " of it for matrices"},
  };
}

void print_figures(const std::vector<Figure>& all, bool as_json) {
  size_t width = 0;
  for (const Figure& figure : all) width = std::max(width, figure.label.size());
  std::string text;
  for (const Figure& figure : all)
    text += as_json ? message(text.empty() ? "{" : ", ", json_text(figure.key), ": ", figure.json)
                    : figure.label + std::string(width + 2 - figure.label.size(), ' ') + figure.text + "\n";
  write_answer(as_json ? text + "}\n" : text);
}

}  // namespace

int bench(const Arguments& arguments) {
  const Plan plan{arguments.whole("--prompt-tokens", 512), arguments.whole("--decode-tokens", 64),
                  arguments.whole("--depth", 0), arguments.whole("--batch", 1)};
  const bool quiet = arguments.has("--quiet");
  const Model model = load_model(arguments, false);
  const int64_t limit = model.engine->config().max_position_embeddings;
  if (plan.prompt_tokens > limit || plan.decode_tokens > limit || plan.depth > limit ||
      plan.depth + plan.prompt_tokens + plan.decode_tokens + 1 > limit)
    throw Error(ErrorKind::context_length,
                message("[cli.bench] depth ", plan.depth, ", prompt ", plan.prompt_tokens, " and answer ",
                        plan.decode_tokens, " do not fit the model's context of ", limit, " tokens. Ask for less."));
  std::vector<Run> runs;
  for (int i = 0; i <= kRepeats; ++i) {
    print_notice(message("Run ", i, " of ", kRepeats, i ? " ..." : " (warms up) ..."), quiet);
    runs.push_back(timed(*model.engine, plan));
  }
  runs.erase(runs.begin());
  print_figures(figures(model, plan, runs, quiet), arguments.has("--json"));
  return 0;
}

}  // namespace gemcut::cli
