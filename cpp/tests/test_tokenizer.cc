// The tokenizer gives SentencePiece's and Python's answers (data/text.json), and refuses what is no vocabulary.
#include <algorithm>
#include <limits>

#include "formats/json.h"
#include "formats/sentencepiece_proto.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_vocabulary.h"
#include "tests/files.h"
#include "tests/testing.h"

using namespace gemcut;
using gemcut::testing::test_data;

namespace {

const Json& golden() {
  static const Json data = Json::parse(test_data("text.json"), "text.json", ErrorKind::failed);
  return data;
}

// tests/text/data is where Python's tests have the small models.
std::string model_bytes(const std::string& name) { return test_data("../../../tests/text/data/" + name + ".model"); }

VocabularySource source_of(std::string_view bytes) {
  VocabularySource source;
  source.kind = VocabularySource::Kind::sentencepiece;
  source.sentencepiece_model = bytes;
  return source;
}

std::unique_ptr<Tokenizer> made(std::string_view bytes) { return Tokenizer::make(source_of(bytes), "tiny.model"); }

// The same vocabulary in the columns of a GGUF file, as converters write it.
VocabularySource gguf_source(std::string_view bytes, bool is_gemma) {
  const SentencePieceModel model = read_sentencepiece_model(bytes, "tiny.model");
  VocabularySource source;
  source.kind = VocabularySource::Kind::gguf;
  source.pieces = model.pieces;
  source.scores = model.scores;
  source.types.assign(model.types.begin(), model.types.end());
  source.types[static_cast<size_t>(model.unknown_token_id)] = 3;
  source.unknown_token_id = model.unknown_token_id;
  source.bos_token_id = model.bos_token_id;
  source.eos_token_id = model.eos_token_id;
  source.pad_token_id = model.pad_token_id;
  source.add_space_prefix = !is_gemma;
  return source;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

std::vector<int32_t> ids_of(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& item : list.items()) ids.push_back(static_cast<int32_t>(item.integer()));
  return ids;
}

std::string shown(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += std::to_string(id) + " ";
  return text;
}

// A small vocabulary of columns: unknown, bos, eos, then these pieces.
class Columns {
 public:
  explicit Columns(std::vector<std::pair<std::string, int32_t>> pieces) : pieces_(std::move(pieces)) {
    pieces_.insert(pieces_.begin(), {{"<unk>", 2}, {"<s>", 3}, {"</s>", 3}});
    source.kind = VocabularySource::Kind::gguf;
    source.add_space_prefix = false;
    float score = 0;
    for (const auto& [piece, type] : pieces_) {
      source.pieces.push_back(piece);
      source.types.push_back(type);
      source.scores.push_back(score--);
    }
  }
  std::vector<int32_t> encode(std::string_view text) const {
    return Tokenizer::make(source, "x.gguf")->encode(text, false, false);
  }

  VocabularySource source;

 private:
  std::vector<std::pair<std::string, int32_t>> pieces_;
};

void check_rows(const Tokenizer& tokenizer, const Json& rows) {
  for (const Json& row : rows.items()) {
    const std::string text = from_hex(row.find("text")->text());
    const std::vector<int32_t> ids = ids_of(*row.find("ids"));
    CHECK_EQUAL(shown(tokenizer.encode(text, false, false)), shown(ids));
    CHECK_EQUAL(shown(tokenizer.encode(text, true)), shown(ids_of(*row.find("special"))));
    CHECK_EQUAL(tokenizer.decode(ids), row.find("decoded")->text());
    CHECK_EQUAL(tokenizer.decode(ids, true, true), row.find("continued")->text());
  }
}

}  // namespace

TEST(tokenizer_gives_the_ids_of_sentencepiece) {
  for (const char* name : {"tiny-gemma", "tiny-llama"}) {
    const std::string bytes = model_bytes(name);
    const Json& rows = *golden().find("tokens")->find(name);
    CHECK(rows.items().size() > 100);
    check_rows(*made(bytes), rows);
    check_rows(*Tokenizer::make(gguf_source(bytes, name == std::string("tiny-gemma")), "tiny.gguf"), rows);
  }
}

TEST(tokenizer_streams_what_decode_gives) {
  const auto tokenizer = made(model_bytes("tiny-gemma"));
  for (const Json& row : golden().find("tokens")->find("tiny-gemma")->items()) {
    // Cut anywhere, so that characters end in their middle.
    std::vector<int32_t> ids = ids_of(*row.find("special"));
    ids.resize(ids.size() * 2 / 3);
    for (const bool skip_special : {true, false}) {
      Detokenizer detokenizer(*tokenizer, true, skip_special);
      std::string text;
      for (const int32_t id : ids) {
        const std::string piece = detokenizer.push(id);
        CHECK(is_utf8(piece));
        text += piece;
      }
      CHECK_EQUAL(text + detokenizer.finish(), tokenizer->decode(ids, skip_special, true));
    }
  }
}

TEST(tokenizer_follows_the_files_beside_it) {
  const std::string bytes = model_bytes("tiny-llama");
  for (const Json& row : golden().find("settings")->items()) {
    VocabularySource source = source_of(bytes);
    source.legacy = row.find("legacy")->boolean();
    source.add_space_prefix = row.find("add_space_prefix")->boolean();
    if (!row.find("add_bos")->boolean()) source.stated_add_bos = false;
    source.bos_token = "</s>";
    const auto tokenizer = Tokenizer::make(source, "x");
    CHECK_EQUAL(shown(tokenizer->encode("<s>the house</s>the", true)), shown(ids_of(*row.find("ids"))));
  }
}

TEST(tokenizer_knows_markers_from_text) {
  for (size_t i = 0; i < golden().find("markers")->keys().size(); ++i) {
    const std::string& piece = golden().find("markers")->keys()[i];
    if (is_marker(piece) != golden().find("markers")->items()[i].boolean()) testing::fail(__FILE__, __LINE__, piece);
  }
}

TEST(tokenizer_names_its_reserved_tokens) {
  const auto gemma = made(model_bytes("tiny-gemma")), llama = made(model_bytes("tiny-llama"));
  CHECK_EQUAL(gemma->vocab_size(), 700);
  CHECK_EQUAL(gemma->pad_token_id(), 0);
  CHECK_EQUAL(gemma->eos_token_id(), 1);
  CHECK_EQUAL(gemma->bos_token_id(), 2);
  CHECK_EQUAL(gemma->unknown_token_id(), 3);
  CHECK_EQUAL(llama->pad_token_id(), -1);
  CHECK_EQUAL(llama->bos_token_id(), 1);
  CHECK(gemma->add_bos());
  CHECK(gemma->is_special(gemma->id_of("<start_of_turn>")) && !gemma->is_special(gemma->id_of("<table>")));
  CHECK(!gemma->is_special(-1) && !gemma->is_special(700));
  CHECK_EQUAL(gemma->id_of("no such piece"), -1);
  CHECK_EQUAL(gemma->token_bytes(gemma->id_of("\u2581the")), " the");
  CHECK_EQUAL(gemma->token_bytes(gemma->id_of("<0xFF>")), "\xFF");
  CHECK_EQUAL(gemma->token_bytes(gemma->id_of("<end_of_turn>")), "<end_of_turn>");
  CHECK_EQUAL(gemma->piece(gemma->id_of("\u2581the")), "\u2581the");
  CHECK_EQUAL(gemma->max_text_token_id(), 699);
  CHECK_THROWS(gemma->decode({700}), "[formats.tokenizer] token id 700 is outside the vocabulary, expected 0 to 699.");
  CHECK_THROWS(gemma->token_bytes(-1), "token id -1 is outside the vocabulary");
}

TEST(tokenizer_merges_best_score_then_leftmost) {
  const Columns columns({{"a", 1}, {"b", 1}, {"aa", 1}, {"aab", 1}, {"ba", 1}});
  CHECK_EQUAL(shown(columns.encode("aaa")), "5 3 ");
  CHECK_EQUAL(shown(columns.encode("aabaa")), "6 5 ");
  CHECK_EQUAL(shown(columns.encode("abab")), "3 7 4 ");
  CHECK_EQUAL(shown(columns.encode("xyz")), "0 ");  // a run of unknown characters is one unknown token
  CHECK_EQUAL(shown(columns.encode("xaxy")), "0 3 0 ");
}

TEST(tokenizer_merges_over_spaces_where_a_piece_has_one_inside) {
  const Columns columns({{"a", 1}, {"\u2581", 1}, {"a\u2581", 1}, {"\u2581a", 1}, {"a\u2581a", 1}});
  CHECK_EQUAL(shown(columns.encode("a a")), "7 ");
  CHECK_EQUAL(shown(columns.encode(" a a")), "4 7 ");
}

TEST(tokenizer_takes_unused_pieces_apart) {
  const Columns columns({{"a", 1}, {"b", 1}, {"ab", 5}, {"aab", 1}, {"abb", 5}});
  CHECK_EQUAL(shown(columns.encode("ab")), "3 4 ");
  CHECK_EQUAL(shown(columns.encode("aab")), "6 ");
  CHECK_EQUAL(shown(columns.encode("abb")), "3 4 4 ");
}

TEST(tokenizer_is_not_quadratic) {
  const auto tokenizer = made(model_bytes("tiny-gemma"));
  for (const char c : {'a', ' ', '\n', '\xFF', 'e'}) {
    const std::string text(200000, c);
    const auto ids = tokenizer->encode(text);
    CHECK_EQUAL(tokenizer->decode(ids).size(), c == '\xFF' ? 3 * text.size() : text.size());
  }
}

TEST(tokenizer_drops_spaces_where_the_model_says_so) {
  const std::string bytes = model_bytes("tiny-llama");
  // A NormalizerSpec with remove_extra_whitespaces on, appended: the last value of a field wins.
  const auto tokenizer = made(bytes + std::string("\x1A\x02\x20\x01"));
  CHECK_EQUAL(shown(tokenizer->encode("  the   house ")), shown(tokenizer->encode("the house")));
  CHECK_EQUAL(tokenizer->decode(tokenizer->encode("  the   house ")), "the house");
  CHECK(tokenizer->encode("   ", false, false).empty());
}

TEST(tokenizer_adds_tokens_of_the_files_beside_it) {
  const std::string bytes = model_bytes("tiny-gemma");
  VocabularySource source = source_of(bytes);
  source.added_tokens = {{6, "<escape>", false}, {7, "two  words", false}, {700, "<new>", true}, {701, "plain", false}};
  const auto tokenizer = Tokenizer::make(source, "x");
  CHECK_EQUAL(shown(tokenizer->encode("<escape><new>plain", true, false)), "6 700 701 ");
  CHECK_EQUAL(tokenizer->vocab_size(), 702);
  CHECK(tokenizer->encode("<escape>", false, false).size() > 1);
  source.added_tokens = {{705, "<new>", true}};
  CHECK_THROWS(Tokenizer::make(source, "x"),
               "added token \"<new>\" has id 705, expected at most 700, the next free id.");
  source.added_tokens = {{699, "<new>", true}};
  CHECK_THROWS(Tokenizer::make(source, "x"), "added token \"<new>\" has id 699, which is");
}

TEST(tokenizer_refuses_damaged_models) {
  const std::string bytes = model_bytes("tiny-llama");
  CHECK_THROWS(made(bytes.substr(0, 1000)), "tiny.model: 1000 bytes that are not a whole SentencePiece model (");
  CHECK_THROWS(made(""), "[formats.sentencepiece_proto] tiny.model: holds no pieces");
  CHECK_THROWS(made("\x0F"), "byte 0 starts no known field");
  CHECK_THROWS(made("\x0A"), "it ends within the number at byte 1");
  CHECK_THROWS(made("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), "does not end");
  CHECK_THROWS(made("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), "has 18446744073709551615 bytes, 0 are left");
  CHECK_THROWS(made(std::string("\x0A\x05\x0A\x01x\x18\x09", 7)), "piece \"x\" has type 9");
  CHECK_THROWS(made(std::string("\x0A\x03\x0A\x01x", 5)), "is a SentencePiece model of type 1, expected 2");
  const std::string with_map = bytes + std::string("\x1A\x03\x12\x01x", 5);
  CHECK_THROWS(made(with_map), "the tokenizer rewrites text before it splits it, which Gemcut does not do.");
  CHECK_THROWS(made(bytes + std::string("\x12\x03\x98\x02\x00", 5)), "has 256 byte pieces, expected 0.");
  // Every length that a file can claim is checked: cut it anywhere, and change any byte.
  for (size_t i = 0; i < 600; ++i) {
    std::string changed = bytes;
    changed[i * 13 % changed.size()] ^= static_cast<char>(1 + i % 255);
    for (const std::string& data : {changed, bytes.substr(0, i * 14)}) {
      try {
        made(data)->encode("the house");
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::tokenizer);
      }
    }
  }
}

TEST(tokenizer_refuses_columns_that_contradict_each_other) {
  const auto refused = [](const auto& change, const std::string& part) {
    Columns columns({{"a", 1}, {"b", 1}});
    change(columns.source);
    CHECK_THROWS(Tokenizer::make(columns.source, "x.gguf"), "[formats.tokenizer_");
    CHECK_THROWS(Tokenizer::make(columns.source, "x.gguf"), part);
  };
  refused([](auto& source) { source.scores.pop_back(); }, "x.gguf: pieces, scores and types have 5, 4 and 5 entries");
  refused([](auto& source) { source.types[3] = 7; }, "piece 3 has the type 7, expected 1 to 6.");
  refused([](auto& source) { source.pieces[3] = ""; }, "piece 3 is empty");
  refused([](auto& source) { source.pieces[3] = "\xC3"; }, "piece 3 is not UTF-8 text (1 bytes)");
  refused([](auto& source) { source.pieces[3] = "b"; }, "ids 3 and 4 are both \"b\", expected each piece once.");
  refused([](auto& source) { source.scores[4] = std::numeric_limits<float>::quiet_NaN(); },
          "piece 4, \"b\", has no number as its score.");
  refused([](auto& source) { source.types[3] = 6; }, "byte piece 3 is \"a\", expected <0x00> to <0xFF>.");
  refused([](auto& source) { source.pieces[3] = "<0x0A>", source.types[3] = 6; }, "has 1 byte pieces, expected 0.");
  refused([](auto& source) { source.bos_token_id = 5; }, "bos_token_id is 5, expected an id below 5.");
  refused([](auto& source) { source.eos_token_id = 1 << 20; }, "eos_token_id is 1048576, expected an id below 5.");
  refused([](auto& source) { source.pad_token_id = 9; }, "padding_token_id is 9, expected an id below 5.");
  refused([](auto& source) { source.unknown_token_id = 6; }, "unknown_token_id is 6, expected an id below 5.");
  refused([](auto& source) { source.kind = VocabularySource::Kind::none; }, "holds no vocabulary");
  // 65 views of one text of 64 MiB are more than 2 GiB.
  const std::string huge(size_t{64} << 20, 'x');
  refused([&](auto& source) {
    source.pieces.resize(70, huge);
    source.scores.resize(70);
    source.types.resize(70, 1);
  }, "70 pieces have 4362076174 bytes, expected at most 2147483647.");
  VocabularySource none;
  none.note = "folder: has a tokenizer.json only.";
  CHECK_THROWS(Tokenizer::make(none, "x"), "folder: has a tokenizer.json only.");
  Columns two({{"a", 1}});
  const std::string bytes = model_bytes("tiny-llama");
  CHECK_THROWS(made(bytes + std::string("\x0A\x06\x0A\x02zz\x18\x02", 8)), "has 2 unknown pieces, expected one.");
}
