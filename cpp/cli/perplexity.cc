// `gemcut-engine perplexity`: how well a model predicts a text.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/terminal.h"
#include "formats/json.h"
#include "formats/message.h"

namespace gemcut::cli {
namespace {

constexpr int64_t kDefaultWindow = 2048;              // tokens
constexpr int64_t kMaxLogits = int64_t{16} << 20;     // numbers held at once

struct Score {
  double negative_logprob = 0;
  int64_t num_tokens = 0;
};

// The text in the passages of a file: the whole file, or a JSON text a line.
std::vector<std::string> passages(const std::string& path, bool is_jsonl) {
  const std::string text = read_text_file(path, path);
  if (!is_jsonl) return {text};
  std::vector<std::string> found;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json value = Json::parse(line, message(path, ": line ", number), ErrorKind::checkpoint);
    if (!value.is(Json::Kind::text))
      throw DataError(message("[cli.perplexity] ", path, ": line ", number, " is ", value.shown(40),
                              ", expected a JSON text. Write one passage a line, in quotes."));
    found.push_back(value.text());
  }
  return found;
}

// log p of `token_id` under a row of logits.
double logprob(const float* logits, int64_t vocab_size, int32_t token_id) {
  Engine::HeadView head;
  head.logits = logits;
  head.max_logit = *std::max_element(logits, logits + vocab_size);
  head.group_tokens = vocab_size;
  return static_cast<double>(logits[token_id]) - log_sum_exp(head, vocab_size);
}

// Scores the tokens of `window` from `first_scored` on, each after all before it.
void score_window(Engine& engine, std::span<const int32_t> window, int64_t first_scored, Score& score) {
  const int64_t vocab_size = engine.config().vocab_size;
  const auto length = static_cast<int64_t>(window.size());
  const auto sequence = engine.new_sequence(length);
  const auto part = [&](int64_t begin, int64_t end) {
    return Work{sequence.get(), window.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))};
  };
  // The token before the first scored one gives the first logits that are wanted.
  int64_t done = first_scored - 1;
  if (done > 0) {
    const Work context = part(0, done);
    engine.forward({&context, 1}, {Rows::none, false, false});
  }
  const int64_t at_once = std::clamp<int64_t>(kMaxLogits / vocab_size, 1, 512);
  while (done < length - 1) {
    const int64_t end = std::min(done + at_once, length - 1);
    const Work work = part(done, end);
    const Results results = engine.forward({&work, 1}, {Rows::all, true, false});
    for (int64_t i = done; i < end; ++i)
      score.negative_logprob -= logprob(results.logits.data() + (i - done) * vocab_size, vocab_size,
                                        window[static_cast<size_t>(i) + 1]);
    score.num_tokens += end - done;
    done = end;
  }
}

// A text in windows of `context` tokens: each begins with the text's own beginning-of-text token if it has one, the
// first scores all its tokens, later ones those that no earlier one has scored.
void score_text(Engine& engine, const std::vector<int32_t>& token_ids, int32_t bos, int64_t context, int64_t stride,
                Score& score) {
  const auto length = static_cast<int64_t>(token_ids.size());
  const bool has_bos = length > 0 && token_ids[0] == bos;
  int64_t scored = 1;  // tokens of the text that are scored, or cannot be because nothing is before them
  for (int64_t end = std::min(context, length); scored < length; end = std::min(end + stride, length)) {
    const int64_t begin = std::max<int64_t>(end - context, 0);
    std::vector<int32_t> window(token_ids.begin() + begin, token_ids.begin() + end);
    if (has_bos) window[0] = bos;
    score_window(engine, window, scored - begin, score);
    scored = end;
  }
}

}  // namespace

int perplexity(const Arguments& arguments) {
  const Model model = load_model(arguments);
  const int64_t limit = model.checkpoint->config().max_position_embeddings;
  const int64_t context = arguments.whole("--context", std::min(kDefaultWindow, limit));
  const int64_t stride = arguments.whole("--stride", std::max<int64_t>(context / 2, 1));
  if (context < 2 || stride >= context)
    throw Error(ErrorKind::usage, message("[cli.perplexity] --context ", context, " and --stride ", stride,
                                          ": expected a window of 2 tokens or more and a smaller stride."));
  const auto begin = std::chrono::steady_clock::now();
  Score score;
  const auto texts = passages(arguments.words()[1], arguments.has("--jsonl"));
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<int32_t> token_ids = model.tokenizer->encode(texts[i]);
    score_text(*model.engine, token_ids, model.tokenizer->bos_token_id(), context, stride, score);
    if (i % 20 == 19) print_notice(message(i + 1, " of ", texts.size(), " passages"), arguments.has("--quiet"));
  }
  if (!score.num_tokens)
    throw DataError(message("[cli.perplexity] ", arguments.words()[1],
                            ": has fewer than two tokens, expected a text. Give a longer one."));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double mean = score.negative_logprob / static_cast<double>(score.num_tokens);
  if (arguments.has("--json")) {
    write_answer(message("{\"perplexity\": ", json_number(std::exp(mean)), ", \"negative_logprob\": ",
                         json_number(score.negative_logprob), ", \"tokens\": ", score.num_tokens, ", \"passages\": ",
                         texts.size(), ", \"context\": ", context, ", \"stride\": ", stride, ", \"seconds\": ",
                         json_number(seconds), ", \"engine\": \"native\"}\n"));
    return 0;
  }
  char line[128];
  std::snprintf(line, sizeof line, "perplexity %.6f  (%lld tokens, %.1f s)\n", std::exp(mean),
                static_cast<long long>(score.num_tokens), seconds);
  write_answer(line);
  return 0;
}

}  // namespace gemcut::cli
