// The command line: parsing, help, stop strings, random numbers, conversations, exit codes.
#include <map>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/flags.h"
#include "cli/generation.h"
#include "cli/loading.h"
#include "cli/random_numbers.h"
#include "cli/stop_strings.h"
#include "cli/terminal.h"
#include "tests/files.h"
#include "tests/testing.h"

using namespace gemcut;
using namespace gemcut::cli;
using gemcut::testing::TemporaryFolder;

namespace {

const Command& command_called(std::string_view name) {
  for (const Command& command : kCommands)
    if (command.name == name) return command;
  throw std::runtime_error("no command " + std::string(name));
}

Arguments parsed(const std::vector<std::string>& given, std::string_view command = "run") {
  return parse_arguments(command_called(command), given);
}

}  // namespace

TEST(cli_flags_are_parsed) {
  const Arguments arguments = parsed({"m.gguf", "--max-tokens", "5", "--stop=a", "--stop", "b=c", "--temperature=0.5",
                                      "--max-tokens", "7", "--seed", "-3", "--json", "--", "--not-a-flag"});
  CHECK_EQUAL(arguments.words().size(), size_t{2});
  CHECK_EQUAL(*arguments.word(1), "--not-a-flag");
  CHECK(!arguments.word(2));
  CHECK_EQUAL(arguments.whole("--max-tokens", 64), 7);
  CHECK_EQUAL(arguments.whole("--seed", 0), -3);
  CHECK_EQUAL(arguments.whole("--top-k", 9), 9);
  CHECK_EQUAL(arguments.real("--temperature", 0), 0.5);
  CHECK((arguments.texts("--stop") == std::vector<std::string>{"a", "b=c"}));
  CHECK(arguments.has("--json") && !arguments.has("--quiet"));
}

TEST(cli_flags_refuse_wrong_use) {
  CHECK_THROWS(parsed({"m", "--tokens", "5"}), "[cli.flags] --tokens is not a flag of run.");
  CHECK_THROWS(parsed({"m", "--depth", "5"}), "--depth is not a flag of run.");
  CHECK_THROWS(parsed({"m", "--max-tokens"}), "--max-tokens needs a value: --max-tokens N.");
  CHECK_THROWS(parsed({"m", "--json=1"}), "--json takes no value.");
  CHECK_THROWS(parsed({"m", "--max-tokens", "0"}), "--max-tokens is \"0\", expected a whole number, at least 1.");
  CHECK_THROWS(parsed({"m", "--max-tokens", "1.5"}), "--max-tokens is \"1.5\", expected a whole number");
  CHECK_THROWS(parsed({"m", "--top-k", "99999999999999999999"}), "expected a whole number, at least 0.");
  CHECK_THROWS(parsed({"m", "--top-p", "0"}), "--top-p is \"0\", expected a number, above 0 and at most 1.");
  CHECK_THROWS(parsed({"m", "--min-p", "1"}), "expected a number, from 0 to below 1.");
  CHECK_THROWS(parsed({"m", "--temperature", "nan"}), "--temperature is \"nan\", expected a number, at least 0.");
  CHECK_THROWS(parsed({"m", "--temperature", "x"}), "--temperature is \"x\"");
  CHECK_THROWS(parsed({"m", "--seed", "x"}), "--seed is \"x\", expected a whole number.");
  CHECK_THROWS(parsed({}), "gemcut-engine run needs MODEL [PROMPT].");
  CHECK_THROWS(parsed({"a", "b", "c"}), "gemcut-engine run has 3 arguments, expected MODEL [PROMPT].");
}

TEST(cli_help_names_every_flag) {
  const std::string overview = help_of(kCommands);
  for (const Command& command : kCommands) {
    const std::string page = help_of(command);
    for (const std::string_view flag : command.flags) CHECK(page.find("  " + std::string(flag)) != std::string::npos);
    CHECK(page.find("Examples:\n  gemcut-engine " + std::string(command.name)) != std::string::npos);
    CHECK_EQUAL(overview.find("\n  " + std::string(command.name) + " ") != std::string::npos, !command.is_hidden);
  }
}

TEST(cli_refuses_cuts_without_a_temperature) {
  CHECK_THROWS(generation_options(parsed({"m", "--top-k", "5"}), 64, {}),
               "[cli.generation] --top-k 5 has no effect at temperature 0");
  SamplingOptions defaults;
  defaults.temperature = 1;
  defaults.top_k = 64;
  const GenerationOptions options = generation_options(parsed({"m", "--top-p", "0.5", "--seed", "4"}), 64, defaults);
  CHECK_EQUAL(options.sampling.top_k, 64);
  CHECK_EQUAL(options.sampling.top_p, 0.5f);
  CHECK_EQUAL(options.seed, 4);
  CHECK_EQUAL(options.max_tokens, 64);
}

TEST(cli_stop_strings_cut_and_hold_back) {
  StopStrings stops({"ab", "abc", "xy"});
  CHECK_EQUAL(stops.push("1a"), "1");
  CHECK_EQUAL(stops.push("c2"), "ac2");
  CHECK_EQUAL(stops.push("x"), "");
  CHECK_EQUAL(stops.push("ab"), "x");
  CHECK(stops.has_stopped());
  CHECK_EQUAL(stops.push("more"), "");
  StopStrings held({"</end>"});
  CHECK_EQUAL(held.push("text</en"), "text");
  CHECK_EQUAL(held.finish(), "</en");
  StopStrings longest({"b", "ab"});
  CHECK_EQUAL(longest.push("1ab"), "1");
  CHECK_THROWS(StopStrings({"a", ""}), "[cli.stop_strings] --stop is empty");
}

TEST(cli_seeds_give_numpys_numbers) {
  // numpy.random.Generator(Philox(SeedSequence([seed, 0]))).random(3, dtype=float32), NumPy 2.
  const std::map<int64_t, std::vector<float>> expected = {
      {7, {0.268638551f, 0.468817472f, 0.97386992f}},
      {0, {0.135622919f, 0.0140669942f, 0.937732399f}},
      {9007199254740991, {0.646973729f, 0.322726727f, 0.380356669f}}};
  for (const auto& [seed, numbers] : expected) {
    RandomNumbers random(seed);
    for (const float number : numbers) CHECK_EQUAL(random.next(), number);
  }
  CHECK(RandomNumbers::new_seed() != RandomNumbers::new_seed());
}

TEST(cli_conversation_takes_turns_back) {
  Conversation talk("Be kind.");
  talk.ask("a");
  talk.answer("b");
  talk.ask("c");
  talk.answer("");  // an empty answer takes the question back
  CHECK_EQUAL(talk.messages().size(), size_t{3});
  CHECK_EQUAL(talk.messages()[0].content, "Be kind.");
  CHECK_EQUAL(talk.command("/undo"), "Took back the last question.");
  CHECK(talk.is_empty());
  CHECK_EQUAL(talk.command("/undo"), "There is nothing to take back.");
  CHECK_EQUAL(talk.command("/system  Rhyme."), "The system instruction is set; the conversation is empty.");
  CHECK_EQUAL(talk.messages()[0].content, "Rhyme.");
  CHECK_EQUAL(talk.command("/system"), "The system instruction is removed; the conversation is empty.");
  talk.ask("a");
  CHECK_EQUAL(talk.command("/clear"), "The conversation is empty.");
  CHECK(talk.messages().empty());
  CHECK(talk.command("/help").find("/exit") != std::string::npos);
  CHECK_THROWS(talk.command("/save x"), "[cli.conversation] /save: no such command.");
}

TEST(cli_prompts_are_text) {
  const TemporaryFolder folder;
  const std::string path = folder.write("prompt.txt", "Hello\r\n"), bad = folder.write("bad.txt", "ab\xFF");
  CHECK_EQUAL(read_prompt(std::nullopt, path, true), "Hello");
  CHECK_EQUAL(read_prompt("given\n", std::nullopt, true), "given\n");
  CHECK_THROWS(read_prompt("a", path, true), "PROMPT and --file are both given.");
  CHECK_THROWS(read_prompt("", std::nullopt, true), "PROMPT is empty, expected the text to continue.");
  CHECK_THROWS(read_prompt(std::nullopt, bad, true), "bad.txt: byte 2 is not UTF-8");
  CHECK_THROWS(read_prompt(std::nullopt, folder.path() + "none", true), "none: no such file. Check the path.");
}

TEST(cli_errors_become_exit_codes) {
  const TemporaryFolder folder;
  const std::string model = folder.write("model.gguf", testing::tiny_gguf().str());
  const std::string text = folder.write("text", "x"), bad = folder.write("bad", "\xFF");
  const std::string number = folder.write("number", "5\n"), empty = folder.write("empty", "\n");
  const std::vector<std::pair<std::vector<std::string>, int>> expected = {
      {{"run"}, 2},
      {{"fly"}, 2},
      {{"run", model, "a", "--system", "b"}, 2},
      {{"run", folder.path() + "no.gguf", "a"}, 4},
      {{"run", text, "a"}, 3},
      {{"run", model, "--file", bad}, 3},
      {{"bench", model, "--prompt-tokens", "1000000"}, 2},
      {{"perplexity", model, text, "--context", "4", "--stride", "4", "--quiet"}, 2},
      {{"perplexity", model, number, "--jsonl", "--quiet"}, 3},
      {{"perplexity", model, empty, "--jsonl", "--quiet"}, 3},
      {{"run", model, "a", "--context", "1000000"}, 2},
  };
  for (const auto& [given, code] : expected) CHECK_EQUAL(run_command_line(given), code);
}

TEST(cli_refuses_a_tokenizer_of_another_model) {
  const TemporaryFolder folder;
  const auto checkpoint = Checkpoint::open(folder.write("model.gguf", testing::tiny_gguf().str()));
  const auto tokenizer = Tokenizer::make(checkpoint->vocabulary(), "model.gguf");
  check_tokenizer_matches(*tokenizer, 6, "model.gguf");
  CHECK_THROWS(check_tokenizer_matches(*tokenizer, 3, "model.gguf"), "but the embedding has 3 rows.");
}
