// The commands on a tiny model: what they write to standard output, their JSON keys and exit codes.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/commands.h"
#include "formats/json.h"
#include "formats/mapped_file.h"
#include "tests/files.h"
#include "tests/testing.h"

using namespace gemcut;
using gemcut::testing::TemporaryFolder;

namespace {

struct Ran {
  int code;
  std::string output;  // of standard output
  Json json() const { return Json::parse(output, "output", ErrorKind::failed); }
};

// Exchanges a standard stream for a file while it lives.
class Redirected {
 public:
  Redirected(int stream, const std::string& path, int flags) : stream_(stream), kept_(dup(stream)) {
    std::fflush(stdout);
    std::clearerr(stdin);
    const int file = ::open(path.c_str(), flags, 0600);
    dup2(file, stream_);
    close(file);
  }
  ~Redirected() {
    std::fflush(stdout);
    dup2(kept_, stream_);
    close(kept_);
  }
  Redirected(const Redirected&) = delete;

 private:
  int stream_, kept_;
};

// Runs a command line with a text as its standard input.
Ran ran(const std::vector<std::string>& given, const std::string& input = "") {
  const TemporaryFolder folder;
  const std::string in = folder.write("in", input), out = folder.write("out", "");
  int code = 0;
  {
    const Redirected output(STDOUT_FILENO, out, O_WRONLY), source(STDIN_FILENO, in, O_RDONLY);
    std::cin.clear();
    code = cli::run_command_line(given);
    // What the command left unread must not reach the next one.
    std::cin.clear();
    std::cin.ignore(1 << 20);
  }
  return {code, read_file(out, 1 << 20, ErrorKind::failed)};
}

void check_keys(const Json& json, const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    if (!json.find(key)) testing::fail(__FILE__, __LINE__, "no key " + key);
}

// With room for a conversation.
std::string model_in(const TemporaryFolder& folder) {
  return folder.write("model.gguf", testing::tiny_gguf().str());
}

}  // namespace

TEST(cli_run_completes_a_prompt) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder);
  const Ran json = ran({"run", model, "a", "--max-tokens", "3", "--json", "--quiet", "--threads", "1"});
  CHECK_EQUAL(json.code, 0);
  check_keys(json.json(), {"text", "token_ids", "finish_reason", "usage", "engine"});
  CHECK_EQUAL(json.json().find("engine")->text(), "native");
  check_keys(*json.json().find("usage"), {"prompt_tokens", "completion_tokens"});
  const Ran text = ran({"run", model, "a", "--max-tokens", "3", "--quiet"});
  CHECK_EQUAL(text.output, json.json().find("text")->text() + "\n");
  // The prompt by standard input and by a file is the same prompt.
  CHECK_EQUAL(ran({"run", model, "--max-tokens", "3", "--json", "--quiet"}, "a\n").output, json.output);
  const std::string file = folder.write("prompt", "a\n");
  CHECK_EQUAL(ran({"run", model, "--file", file, "--max-tokens", "3", "--json", "--quiet"}).output, json.output);
}

TEST(cli_run_draws_the_same_with_the_same_seed) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder);
  const std::vector<std::string> given = {"run", model, "a", "--max-tokens", "8", "--json", "--quiet",
                                          "--temperature", "2", "--top-k", "5", "--seed"};
  const auto with_seed = [&](const char* seed) {
    std::vector<std::string> all = given;
    all.push_back(seed);
    return ran(all).output;
  };
  CHECK_EQUAL(with_seed("1"), with_seed("1"));
}

TEST(cli_run_refuses_a_prompt_that_fills_the_context) {
  const TemporaryFolder folder;
  CHECK_EQUAL(ran({"run", model_in(folder), "aaaa", "--context", "2", "--quiet"}).code, 2);
}

TEST(cli_chat_talks_until_it_is_left) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder);
  const Ran run = ran({"chat", model, "--max-tokens", "1", "--context", "16", "--json", "--quiet"},
                      "/nothing\n\na\n/clear\n//a\n/undo\n/exit\na\n");
  CHECK_EQUAL(run.code, 0);
  size_t answers = 0;
  for (const char c : run.output) answers += c == '\n';
  CHECK(answers <= 2);
  for (size_t begin = 0; begin < run.output.size(); begin = run.output.find('\n', begin) + 1)
    check_keys(Json::parse(run.output.substr(begin, run.output.find('\n', begin) - begin), "x", ErrorKind::failed),
               {"text", "finish_reason"});
}

TEST(cli_perplexity_does_not_depend_on_windows_that_hold_the_text) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder), text = folder.write("text", "aabaab");
  const auto measured = [&](const std::vector<std::string>& more) {
    std::vector<std::string> given = {"perplexity", model, text, "--json", "--quiet"};
    given.insert(given.end(), more.begin(), more.end());
    return ran(given).json();
  };
  const Json whole = measured({}), same = measured({"--context", "16", "--stride", "1"});
  check_keys(whole, {"perplexity", "negative_logprob", "tokens", "passages", "context", "stride", "seconds"});
  CHECK_EQUAL(whole.find("negative_logprob")->number(), same.find("negative_logprob")->number());
  // Small windows score each token once too.
  const Json small = measured({"--context", "3", "--stride", "1"});
  CHECK_EQUAL(small.find("tokens")->integer(), whole.find("tokens")->integer());
  const std::string passages = folder.write("passages", "\"aabaab\"\n\n\"aabaab\"\n");
  const Json twice = ran({"perplexity", model, passages, "--jsonl", "--json", "--quiet"}).json();
  CHECK_EQUAL(twice.find("passages")->integer(), 2);
  CHECK_NEAR(twice.find("perplexity")->number(), whole.find("perplexity")->number(), 1e-12);
}

TEST(cli_inspect_shows_what_a_model_is) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder);
  const Json json = ran({"inspect", model, "--json"}).json();
  check_keys(json, {"path", "config", "parameters", "bytes", "types", "tokenizer", "unused", "metadata"});
  CHECK_EQUAL(json.find("tokenizer")->find("vocab_size")->integer(), 6);
  CHECK_EQUAL(json.find("types")->items()[0].find("type")->text(), "F32");
  CHECK(ran({"inspect", model}).output.find("hidden_size  4") != std::string::npos);
}

TEST(cli_tokens_reads_lines) {
  const TemporaryFolder folder;
  const std::string model = model_in(folder);
  const Ran plain = ran({"tokens", model}, "a\naa\n");
  CHECK_EQUAL(plain.code, 0);
  CHECK_EQUAL(ran({"tokens", model, "--json"}, "\"a\"\n\"a\\u0061\"\n").output, plain.output);
  CHECK_EQUAL(ran({"tokens", model, "--json"}, "5\n").code, 3);
  CHECK_EQUAL(ran({"tokens", model, "--json"}, "\"\n").code, 3);
}

TEST(cli_version_and_help_print) {
  check_keys(ran({"version", "--json"}).json(), {"version", "isa", "processor", "cores"});
  CHECK_EQUAL(ran({"--version"}).output, ran({"version"}).output);
  CHECK(ran({"run", "--help"}).output.starts_with("Usage: gemcut-engine run MODEL [PROMPT] [FLAGS]"));
  CHECK_EQUAL(ran({}).code, 2);
  CHECK_EQUAL(ran({"--help"}).output, ran({}).output);
}
