// The JSON reader: what it takes, what it refuses, and how values are written.
#include <cmath>

#include "formats/json.h"
#include "tests/testing.h"

using gemcut::ErrorKind;
using gemcut::Json;

namespace {
Json parse(std::string_view text) { return Json::parse(text, "x.json", ErrorKind::config); }
}  // namespace

TEST(json_reads_every_kind_of_value) {
  const Json data = parse(R"( {"a": [1, -2.5e1, true, false, null], "b": {"c": "d"}, "": 9223372036854775807}
)");
  CHECK_EQUAL(data.keys().size(), 3u);
  const auto& items = data.find("a")->items();
  CHECK_EQUAL(items[0].integer(), 1);
  CHECK_EQUAL(items[1].number(), -25.0);
  CHECK(items[1].is(Json::Kind::number));
  CHECK(items[2].boolean() && !items[3].boolean());
  CHECK(items[4].is(Json::Kind::null));
  CHECK_EQUAL(data.find("b")->find("c")->text(), "d");
  CHECK_EQUAL(data.find("")->integer(), INT64_MAX);
  CHECK(data.find("z") == nullptr);
  CHECK(items[0].find("z") == nullptr);
}

TEST(json_numbers_beyond_whole_ones_become_floats) {
  CHECK_EQUAL(parse("1000000000000000019884624838656").number(), 1e30);
  CHECK(parse("1000000000000000019884624838656").is(Json::Kind::number));
  CHECK(std::isinf(parse("1e400").number()));
  CHECK(parse("-1e400").number() < 0);
  CHECK_EQUAL(parse("1e-400").number(), 0.0);
  CHECK_EQUAL(parse("0.1").number(), 0.1);
}

TEST(json_reads_escapes) {
  CHECK_EQUAL(parse(R"("\"\\\/\b\f\n\r\t")").text(), "\"\\/\b\f\n\r\t");
  CHECK_EQUAL(parse(R"("\u0041\u00e9\u2581\ud83d\ude00")").text(), "A\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x80");
  CHECK_EQUAL(parse("\"\xE2\x96\x81\"").text(), "\xE2\x96\x81");
}

TEST(json_refuses_what_is_not_json) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "01", "1.", ".5", "1e", "+1", "-", "nul", "NaN",
                           "Infinity", "'a'", "\"a", "[1 2]", "{1: 2}", "\"\t\"", "tru"})
    CHECK_THROWS(parse(text), "[formats.json] x.json: is not valid JSON (");
  CHECK_THROWS(parse("1 2"), "something follows its end at byte 2");
  CHECK_THROWS(parse("{\"a\": 1, \"b\": 2, \"a\": 3}"), "the key \"a\" occurs twice");
  CHECK_THROWS(parse("\"\\x\""), "an escape is unknown");
  CHECK_THROWS(parse("\"\\u12"), "an escape is cut short");
  CHECK_THROWS(parse("\"\\u12xy\""), "an escape has no four hexadecimal digits");
  CHECK_THROWS(parse("\"\\ud83d\""), "half of a surrogate pair stands alone");
  CHECK_THROWS(parse("\"\\udc00\""), "half of a surrogate pair stands alone");
  CHECK_THROWS(parse("\"\\ud83d\\u0041\""), "half of a surrogate pair stands alone");
  CHECK_THROWS(parse("\"a"), "a text has no end");
  CHECK_THROWS(parse("\"\n\""), "a control character stands in a text");
  CHECK_THROWS(parse("{1: 2}"), "a key is missing");
  CHECK_THROWS(parse("{\"a\" 1}"), "':' is missing");
  CHECK_THROWS(parse("1."), "a number ends in its point");
  CHECK_THROWS(parse("1e"), "a number has no exponent");
  CHECK_THROWS(parse("nul"), "a value is missing or unknown at byte 0");
  CHECK_THROWS(parse(std::string_view("\"\0\"", 3)), "a control character stands in a text");
}

TEST(json_is_limited_in_depth_and_in_values) {
  CHECK_EQUAL(parse(std::string(128, '[') + std::string(128, ']')).items().size(), 1u);
  CHECK_THROWS(parse(std::string(200, '[') + std::string(200, ']')), "it is nested too deeply to be real");
  CHECK_THROWS(parse(std::string(1'000'000, '[')), "it is nested too deeply to be real");
  std::string many = "[1";
  for (int i = 0; i < 2'100'000; ++i) many += ",1";
  CHECK_THROWS(parse(many + "]"), "it has too many values to be real");
}

TEST(json_is_utf8) {
  CHECK(gemcut::is_utf8("plain, and longer than eight bytes"));
  CHECK(gemcut::is_utf8("\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x80\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF"));
  for (const char* text : {"\x80", "\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x96", "\xE2\x96\x41", "abcdefgh\x80",
                           "abcdefghijklmnop\xC3", "abc\xFF", "a\xC3(", "abcdefghij\x80klm"})
    CHECK(!gemcut::is_utf8(text));
  CHECK_THROWS(parse("\"\x80\""), "it is not UTF-8");
}

TEST(json_writes_values) {
  CHECK_EQUAL(gemcut::json_text("a\"\\\n\x01\xC3\xA9"), "\"a\\\"\\\\\\n\\u0001\xC3\xA9\"");
  CHECK_EQUAL(gemcut::json_number(256), "256.0");
  CHECK_EQUAL(gemcut::json_number(1e-6), "1e-06");
  CHECK_EQUAL(gemcut::json_number(INFINITY), "null");
  CHECK_EQUAL(parse("{\"a\": [1, 2.5, \"x\", true, null]}").shown(), "{\"a\": [1, 2.5, \"x\", true, null]}");
  CHECK_EQUAL(parse("[1, 2, 3, 4, 5]").shown(6), "[1, 2,...");
  CHECK_EQUAL(parse("\"\xC3\xA9\xC3\xA9\"").shown(2), "\"...");
}
