// Runs every TEST, or those whose name contains an argument.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "tests/testing.h"

namespace gemcut::testing {
namespace {
struct Registered {
  const char* file;
  const char* name;
  TestFunction function;
};
struct Skipped {
  std::string reason;
};
std::vector<Registered>& all_tests() {
  static std::vector<Registered> tests;
  return tests;
}
}  // namespace

int register_test(const char* file, const char* name, TestFunction function) {
  all_tests().push_back({file, name, function});
  return 0;
}
void fail(const char* file, int line, const std::string& why) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + why);
}
void skip(const std::string& reason) { throw Skipped{reason}; }
bool fewer_cases() {
  const char* const value = std::getenv("GEMCUT_TEST_FEWER");
  return value && *value && std::strcmp(value, "0") != 0;
}

static bool wanted(const char* name, int count, char** patterns) {
  for (int i = 1; i < count; ++i)
    if (std::strstr(name, patterns[i])) return true;
  return count < 2;
}

static int run(int argument_count, char** arguments) {
  int passed = 0, failed = 0, skipped = 0;
  for (const Registered& test : all_tests()) {
    if (!wanted(test.name, argument_count, arguments)) continue;
    const auto begin = std::chrono::steady_clock::now();
    try {
      test.function();
      ++passed;
    } catch (const Skipped& skip) {
      ++skipped;
      std::printf("SKIPPED %s: %s\n", test.name, skip.reason.c_str());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s: %s\n", test.name, error.what());
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (seconds.count() > 10) std::printf("%.0f s for %s\n", seconds.count(), test.name);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed || !passed;
}
}  // namespace gemcut::testing

int main(int argument_count, char** arguments) { return gemcut::testing::run(argument_count, arguments); }
