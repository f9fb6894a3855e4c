// From GGUF columns or a SentencePiece model, and the tokens that files beside it add, to one vocabulary.
#include "formats/tokenizer_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/message.h"
#include "formats/sentencepiece_proto.h"
#include "formats/tokenizer_tables.h"
#include "formats/tokenizer_utf8.h"

namespace gemcut {
namespace {

constexpr int64_t kBytePair = 2;  // TrainerSpec.ModelType

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::tokenizer, message("[formats.tokenizer_vocabulary] ", where, ": ", what));
}

// The columns before they are put into flat memory: pieces are views, or texts of our own in `owned`.
struct Columns {
  std::vector<std::string_view> pieces;
  std::vector<float> scores;
  std::vector<PieceType> types;
  std::vector<std::unique_ptr<std::string>> owned;

  std::string_view own(std::string text) {
    owned.push_back(std::make_unique<std::string>(std::move(text)));
    return *owned.back();
  }
};

int32_t checked_id(int64_t id, const char* name, size_t num_pieces, const std::string& where) {
  if (id < 0 || static_cast<uint64_t>(id) >= num_pieces)
    refuse(where, message(name, " is ", id, ", expected an id below ", num_pieces, ". Convert the file again."));
  return static_cast<int32_t>(id);
}

// The user-defined pieces of a GGUF file have their spaces unescaped.
std::string with_space_symbols(std::string_view piece) {
  std::string text;
  for (const char c : piece) {
    if (c == ' ') text += kSpaceSymbol;
    else text += c;
  }
  return text;
}

Columns read_gguf(const VocabularySource& source, const std::string& where, Vocabulary& vocabulary) {
  const size_t count = source.pieces.size();
  if (!count || source.scores.size() != count || source.types.size() != count)
    refuse(where, message("pieces, scores and types have ", count, ", ", source.scores.size(), " and ",
                          source.types.size(), " entries, expected equally many, above 0. Fetch the file again."));
  Columns columns{source.pieces, source.scores, {}, {}};
  columns.types.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const int32_t type = source.types[i];
    if (type < 1 || type > 6)
      refuse(where, message("piece ", i, " has the type ", type, ", expected 1 to 6. Fetch the file again."));
    columns.types.push_back(static_cast<PieceType>(type));
    // SentencePiece wants exactly one unknown piece; llama.cpp's converter stores it as a control token.
    if (columns.types[i] == PieceType::unknown) columns.types[i] = PieceType::control;
    if (columns.types[i] == PieceType::user_defined && columns.pieces[i].find(' ') != std::string_view::npos)
      columns.pieces[i] = columns.own(with_space_symbols(columns.pieces[i]));
  }
  // Defaults of a "llama" vocabulary: unknown 0, bos 1, eos 2. Source: llama.cpp, src/llama-vocab.cpp.
  const auto id_or = [](int64_t id, int64_t usual) { return id < 0 ? usual : id; };
  const int32_t unknown = checked_id(id_or(source.unknown_token_id, 0), "unknown_token_id", count, where);
  columns.types[static_cast<size_t>(unknown)] = PieceType::unknown;
  vocabulary.bos_token_id = checked_id(id_or(source.bos_token_id, 1), "bos_token_id", count, where);
  vocabulary.eos_token_id = checked_id(id_or(source.eos_token_id, 2), "eos_token_id", count, where);
  if (source.pad_token_id >= 0)
    vocabulary.pad_token_id = checked_id(source.pad_token_id, "padding_token_id", count, where);
  vocabulary.add_dummy_prefix = source.add_space_prefix;
  vocabulary.byte_fallback = std::count(columns.types.begin(), columns.types.end(), PieceType::byte) == 256;
  vocabulary.add_bos = source.add_bos;
  return columns;
}

// The id of a reserved piece: by its name if the settings have one that is there, else as the vocabulary says.
int32_t reserved_id(const Columns& columns, const std::string& name, int64_t by_vocabulary) {
  if (!name.empty()) {
    const auto found = std::find(columns.pieces.begin(), columns.pieces.end(), name);
    if (found != columns.pieces.end()) return static_cast<int32_t>(found - columns.pieces.begin());
  }
  const bool is_there = by_vocabulary >= 0 && static_cast<uint64_t>(by_vocabulary) < columns.pieces.size();
  return is_there ? static_cast<int32_t>(by_vocabulary) : -1;
}

// Renames a reserved piece or appends a new one. Python: gemcut.text.tokenizer_settings.with_added_tokens.
void add_token(const AddedToken& added, const std::string& where, Columns& columns) {
  const size_t count = columns.pieces.size();
  const PieceType kind = added.special || is_marker(added.piece) ? PieceType::control : PieceType::user_defined;
  if (added.token_id < 0 || static_cast<uint64_t>(added.token_id) > count)
    refuse(where, message("added token ", quoted(added.piece), " has id ", added.token_id, ", expected at most ", count,
                          ", the next free id. Use the files that came together."));
  const auto i = static_cast<size_t>(added.token_id);
  if (i == count) {
    columns.pieces.push_back(columns.own(added.piece));
    columns.scores.push_back(0);
    columns.types.push_back(kind);
    return;
  }
  PieceType& type = columns.types[i];
  if (columns.pieces[i] == added.piece) {
    if (added.special && type == PieceType::user_defined) type = PieceType::control;
  } else if (type == PieceType::control || type == PieceType::user_defined || type == PieceType::unused ||
             type == PieceType::unknown) {
    columns.pieces[i] = columns.own(added.piece);
    if (type != PieceType::unknown) type = kind;
  } else if (type != PieceType::byte || columns.pieces[i] != "<0x09>") {
    // Hugging Face writes Gemma's byte piece of the tab as the tab itself; any other clash is a mix-up.
    refuse(where, message("added token ", quoted(added.piece), " has id ", i, ", which is ", quoted(columns.pieces[i]),
                          " in the vocabulary. Use the files that came together."));
  }
}

Columns read_sentencepiece(const VocabularySource& source, const std::string& where, Vocabulary& vocabulary) {
  SentencePieceModel model = read_sentencepiece_model(source.sentencepiece_model, where);
  if (model.model_type != kBytePair)
    refuse(where, message("is a SentencePiece model of type ", model.model_type,
                          ", expected 2 (byte-pair encoding), as Gemma, Llama 2 and Mistral have it."));
  if (model.has_character_map || model.treat_whitespace_as_suffix || !model.escape_whitespaces)
    refuse(where, "the tokenizer rewrites text before it splits it, which Gemcut does not do.");
  Columns columns{std::move(model.pieces), std::move(model.scores), {}, {}};
  for (const uint8_t type : model.types) columns.types.push_back(static_cast<PieceType>(type));
  for (const AddedToken& added : source.added_tokens) add_token(added, where, columns);
  vocabulary.bos_token_id = reserved_id(columns, source.bos_token, model.bos_token_id);
  vocabulary.eos_token_id = reserved_id(columns, source.eos_token, model.eos_token_id);
  vocabulary.pad_token_id = reserved_id(columns, source.pad_token, model.pad_token_id);
  vocabulary.add_dummy_prefix = model.add_dummy_prefix && source.add_space_prefix;
  vocabulary.remove_extra_whitespaces = model.remove_extra_whitespaces;
  vocabulary.byte_fallback = model.byte_fallback;
  vocabulary.legacy = source.legacy;
  vocabulary.add_bos = source.stated_add_bos.value_or(true);
  return columns;
}

// "<0x0A>" and the like.
bool is_byte_piece(std::string_view piece) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return piece.size() == 6 && piece.substr(0, 3) == "<0x" && piece[5] == '>' && is_digit(piece[3]) &&
         is_digit(piece[4]);
}

bool is_utf8_text(std::string_view text) {
  while (!text.empty() && static_cast<unsigned char>(text[0]) < 0x80) text.remove_prefix(1);
  while (!text.empty()) {
    const size_t size = utf8_character_bytes(text);
    if (!size) return false;
    text.remove_prefix(size);
  }
  return true;
}

void check_piece(std::string_view piece, float score, PieceType type, size_t i, const std::string& where) {
  if (piece.empty()) refuse(where, message("piece ", i, " is empty, expected some text. Fetch the file again."));
  if (!is_utf8_text(piece))
    refuse(where, message("piece ", i, " is not UTF-8 text (", piece.size(), " bytes). Fetch the file again."));
  if (std::isnan(score))
    refuse(where, message("piece ", i, ", ", quoted(piece), ", has no number as its score. Fetch the file again."));
  if (type == PieceType::byte && !is_byte_piece(piece))
    refuse(where, message("byte piece ", i, " is ", quoted(piece), ", expected <0x00> to <0xFF>. Fetch it again."));
}

void check_counts(const Vocabulary& vocabulary, const std::string& where) {
  const auto count = [&](PieceType type) { return std::count(vocabulary.types.begin(), vocabulary.types.end(), type); };
  if (count(PieceType::unknown) != 1)
    refuse(where, message("has ", count(PieceType::unknown), " unknown pieces, expected one. Fetch the file again."));
  const auto bytes = count(PieceType::byte), expected = vocabulary.byte_fallback ? 256L : 0L;
  if (bytes != expected)
    refuse(where, message("has ", bytes, " byte pieces, expected ", expected, ". Fetch the file again."));
}

void flatten(Columns columns, const std::string& where, Vocabulary& vocabulary) {
  uint64_t num_bytes = 0;
  for (const std::string_view piece : columns.pieces) num_bytes += piece.size();
  // Ids are int32, and so are positions in the pieces' bytes.
  constexpr uint64_t kLimit = std::numeric_limits<int32_t>::max();
  if (num_bytes > kLimit || columns.pieces.size() > kLimit)
    refuse(where, message(columns.pieces.size(), " pieces have ", num_bytes, " bytes, expected at most ", kLimit, "."));
  vocabulary.pieces.reserve(columns.pieces.size(), static_cast<size_t>(num_bytes));
  for (size_t i = 0; i < columns.pieces.size(); ++i) {
    check_piece(columns.pieces[i], columns.scores[i], columns.types[i], i, where);
    vocabulary.pieces.append(columns.pieces[i]);
  }
  vocabulary.scores = std::move(columns.scores);
  vocabulary.types = std::move(columns.types);
}

}  // namespace

bool is_marker(std::string_view piece) {
  if (piece.size() < 3) return false;
  const char open = piece.front(), close = piece.back();
  const bool is_angle = open == '<' && close == '>';
  if (!is_angle && !(open == '[' && close == ']')) return false;
  std::string_view inside = piece.substr(1, piece.size() - 2);
  for (size_t i = 0; i < inside.size();) {
    const size_t size = std::max<size_t>(utf8_character_bytes(inside.substr(i)), 1);
    const std::string_view character = inside.substr(i, size);
    if (character[0] == open || character[0] == close || is_whitespace(character)) return false;
    i += size;
  }
  if (is_angle && inside.front() == '/') inside.remove_prefix(1);
  return !is_angle || std::find(std::begin(kHtmlTags), std::end(kHtmlTags), inside) == std::end(kHtmlTags);
}

Vocabulary make_vocabulary(const VocabularySource& source, const std::string& where) {
  if (source.kind == VocabularySource::Kind::none) {
    if (!source.note.empty()) throw Error(ErrorKind::tokenizer, source.note);
    refuse(where, "holds no vocabulary, expected a SentencePiece one. Get the checkpoint's tokenizer files.");
  }
  Vocabulary vocabulary;
  Columns columns = source.kind == VocabularySource::Kind::gguf ? read_gguf(source, where, vocabulary)
                                                                 : read_sentencepiece(source, where, vocabulary);
  flatten(std::move(columns), where, vocabulary);
  for (size_t i = 0; i < vocabulary.types.size(); ++i) {
    if (vocabulary.types[i] == PieceType::user_defined && is_marker(vocabulary.pieces[i]))
      vocabulary.types[i] = PieceType::control;
    if (vocabulary.types[i] == PieceType::unknown) vocabulary.unknown_token_id = static_cast<int32_t>(i);
  }
  check_counts(vocabulary, where);
  vocabulary.add_bos = vocabulary.add_bos && vocabulary.bos_token_id >= 0;
  return vocabulary;
}

}  // namespace gemcut
