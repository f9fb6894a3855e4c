// The loop of decoding: one step of the engine, one choice, and the text that is certain now.
#include "cli/generation.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "cli/random_numbers.h"
#include "cli/terminal.h"
#include "engine/chat_markers.h"
#include "engine/prompt_lookup.h"
#include "formats/json.h"
#include "formats/message.h"

namespace gemcut::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// What comes out so far, and whether it has to end.
class Writer {
 public:
  Writer(const Model& model, const GenerationOptions& options, const std::function<void(const std::string&)>& show)
      : detokenizer_(*model.tokenizer), stops_(options.stops), show_(show), vocab_size_(model.tokenizer->vocab_size()),
        stop_ids_(stop_token_ids(model.checkpoint->config(), *model.tokenizer)) {}

  void push(int32_t token_id, Answer& answer) {
    ++answer.completion_tokens;
    if (std::binary_search(stop_ids_.begin(), stop_ids_.end(), token_id)) {
      answer.finish_reason = "stop";
      return;
    }
    answer.token_ids.push_back(token_id);
    // Rows that pad the embedding stand for no text.
    if (token_id < vocab_size_) put(stops_.push(detokenizer_.push(token_id)), answer);
    if (stops_.has_stopped()) answer.finish_reason = "stop";
  }
  void finish(Answer& answer) {
    put(stops_.push(detokenizer_.finish()), answer);
    if (!stops_.has_stopped()) put(stops_.finish(), answer);
  }

 private:
  void put(const std::string& text, Answer& answer) {
    answer.text += text;
    if (!text.empty()) show_(text);
  }

  Detokenizer detokenizer_;
  StopStrings stops_;
  const std::function<void(const std::string&)>& show_;
  int32_t vocab_size_;
  std::vector<int32_t> stop_ids_;
};

std::string rate(int64_t tokens, double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, ", %.1f tok/s", static_cast<double>(tokens) / seconds);
  return seconds > 0 ? text : "";
}

// Flags that a greedy choice would silently ignore are refused.
void check_not_greedy(const Arguments& arguments, float temperature) {
  if (temperature > 0) return;
  for (const char* flag : {"--top-k", "--top-p", "--min-p"})
    if (arguments.has(flag))
      throw Error(ErrorKind::usage, message("[cli.generation] ", flag, " ", *arguments.text(flag),
                                            " has no effect at temperature 0, where the most probable token is taken. ",
                                            "Add --temperature with a number above 0, or leave it out."));
}

}  // namespace

GenerationOptions generation_options(const Arguments& arguments, int64_t max_tokens, const SamplingOptions& defaults) {
  GenerationOptions options;
  options.max_tokens = arguments.whole("--max-tokens", max_tokens);
  options.stops = arguments.texts("--stop");
  SamplingOptions& sampling = options.sampling = defaults;
  const auto real = [&](const char* flag, float otherwise) {
    return static_cast<float>(arguments.real(flag, double{otherwise}));
  };
  sampling.temperature = real("--temperature", defaults.temperature);
  sampling.top_k = arguments.whole("--top-k", defaults.top_k);
  sampling.top_p = real("--top-p", defaults.top_p);
  sampling.min_p = real("--min-p", defaults.min_p);
  sampling.repetition_penalty = real("--repetition-penalty", defaults.repetition_penalty);
  options.seed = arguments.has("--seed") ? arguments.whole("--seed", 0) : RandomNumbers::new_seed();
  check_not_greedy(arguments, sampling.temperature);
  StopStrings check(options.stops);
  return options;
}

std::string Answer::json() const {
  std::string ids;
  for (const int32_t token_id : token_ids) ids += message(ids.empty() ? "" : ", ", token_id);
  return message("{\"text\": ", json_text(text), ", \"token_ids\": [", ids, "], \"finish_reason\": ",
                 json_text(finish_reason), ", \"usage\": {\"prompt_tokens\": ", prompt_tokens,
                 ", \"completion_tokens\": ", completion_tokens, "}, \"engine\": \"native\"}\n");
}

std::string Answer::speed() const {
  // The first token comes with the prompt's own pass.
  return message("prompt ", prompt_tokens, " tokens", rate(prefill_tokens, prefill_seconds), "; answer ",
                 completion_tokens, " tokens", rate(std::max<int64_t>(completion_tokens - 1, 0), decode_seconds), " (",
                 finish_reason, ")");
}

void check_prompt(const Model& model, int64_t prompt_tokens) {
  if (prompt_tokens + 1 > model.context)
    throw Error(ErrorKind::context_length,
                message("[cli.generation] prompt: it has ", prompt_tokens, " tokens, but the context is ",
                        model.context, " tokens. Shorten it, or raise --context if the model allows more."));
}

Answer generate(const Model& model, Sequence& sequence, const std::vector<int32_t>& prompt_ids,
                const GenerationOptions& options, const std::function<void(const std::string&)>& show) {
  Answer answer;
  answer.prompt_tokens = static_cast<int64_t>(prompt_ids.size());
  answer.prefill_tokens = answer.prompt_tokens - sequence.length();
  const int64_t limit = std::min(options.max_tokens, model.context - answer.prompt_tokens);
  const int64_t vocab_size = model.checkpoint->config().vocab_size;
  Writer writer(model, options, show);
  RandomNumbers random(options.seed);
  InterruptGuard guard;
  std::vector<int32_t> seen = prompt_ids;
  const bool best_only = needs_best_only(options.sampling, -1);
  PromptLookup lookup;
  // The tokens that follow `seen`; their last one's row is the head's last.
  const auto choose = [&]() -> std::vector<int32_t> {
    size_t row = 0;
    std::vector<int32_t> chosen;
    if (best_only && answer.completion_tokens) {
      chosen = decode_with_lookup(*model.engine, sequence, seen, limit - answer.completion_tokens, lookup);
      row = chosen.size() - 1;
      chosen.pop_back();
    } else {
      const Work work{&sequence, std::span(seen).subspan(static_cast<size_t>(sequence.length()))};
      model.engine->step({&work, 1}, guard.flag(), best_only);
    }
    const float uniform = options.sampling.temperature > 0 ? random.next() : 0;
    chosen.push_back(choose_token(model.engine->head(row), vocab_size, options.sampling, uniform, seen, answer.token_ids, {}, -1)
                         .token_id);
    return chosen;
  };
  try {
    while (answer.finish_reason.empty()) {
      const auto begin = Clock::now();
      const std::vector<int32_t> chosen = choose();
      (answer.completion_tokens ? answer.decode_seconds : answer.prefill_seconds) += seconds_since(begin);
      for (size_t i = 0; i < chosen.size() && answer.finish_reason.empty(); ++i) {
        seen.push_back(chosen[i]);
        writer.push(chosen[i], answer);
        if (answer.finish_reason.empty() && answer.completion_tokens >= limit) answer.finish_reason = "length";
      }
      if (answer.finish_reason.empty() && guard.was_interrupted()) answer.finish_reason = "interrupted";
    }
    // Guesses behind an answer's end are not part of the text.
    const auto stored = static_cast<int64_t>(seen.size()) - 1;
    if (sequence.length() > stored) model.engine->truncate(sequence, stored);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::cancelled) throw;
    answer.finish_reason = "interrupted";
  }
  writer.finish(answer);
  return answer;
}

}  // namespace gemcut::cli
