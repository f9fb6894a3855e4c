// The engine's tests in one executable: TEST(name) { CHECK(...); }. Prints "N passed, M failed" at the end.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace gemcut::testing {

using TestFunction = void (*)();
// Called by TEST before main().
int register_test(const char* file, const char* name, TestFunction function);

// Ends the running test with where and why.
[[noreturn]] void fail(const char* file, int line, const std::string& why);
// Ends it as skipped, with the reason that is printed.
[[noreturn]] void skip(const std::string& reason);
// Whether tests of many cases take a part of them: GEMCUT_TEST_FEWER=1, for processors that are emulated.
bool fewer_cases();
// `all`, or `fewer` there.
template <class T>
T cases(T all, T fewer) {
  return fewer_cases() ? fewer : all;
}

template <class A, class B>
void check_equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream out;
  out.precision(9);
  out << text << ": " << a << " is not " << b;
  fail(file, line, out.str());
}

}  // namespace gemcut::testing

#define TEST(name)                                                                                        \
  static void test_##name();                                                                              \
  [[maybe_unused]] static const int registered_##name =                                                   \
      ::gemcut::testing::register_test(__FILE__, #name, &test_##name);                                    \
  static void test_##name()
#define CHECK(condition) \
  do { if (!(condition)) ::gemcut::testing::fail(__FILE__, __LINE__, "not true: " #condition); } while (0)
#define CHECK_EQUAL(a, b) ::gemcut::testing::check_equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
#define CHECK_NEAR(a, b, tolerance) \
  do { const double va_ = (a), vb_ = (b), vt_ = (tolerance); \
    if (!(va_ - vb_ <= vt_ && vb_ - va_ <= vt_)) ::gemcut::testing::fail(__FILE__, __LINE__, \
      #a " is " + std::to_string(va_) + ", " #b " is " + std::to_string(vb_) + ", tolerance " + std::to_string(vt_)); } while (0)
// The expression throws gemcut::Error whose text contains `part`.
#define CHECK_THROWS(expression, part) \
  do { bool threw_ = false; \
    try { (void)(expression); } catch (const ::gemcut::Error& error_) { threw_ = true; \
      if (std::string(error_.what()).find(part) == std::string::npos) \
        ::gemcut::testing::fail(__FILE__, __LINE__, std::string("message is: ") + error_.what()); } \
    if (!threw_) ::gemcut::testing::fail(__FILE__, __LINE__, "did not throw: " #expression); } while (0)
