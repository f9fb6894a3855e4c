// Reading of vocabularies' sources; what they mean is the tokenizer's affair.
#include "formats/vocabulary.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "formats/json.h"
#include "formats/mapped_file.h"
#include "formats/message.h"

namespace gemcut {

namespace {

using GgufKind = GgufValue::Kind;

constexpr uint64_t kMaxModelBytes = 64 << 20, kMaxJsonBytes = 64 << 20, kMaxTemplateBytes = 1 << 20;

std::string sentence(const std::string& where, const std::string& what) {
  return message("[formats.vocabulary] ", where, ": ", what);
}

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::tokenizer, sentence(where, what));
}

// Whether the three columns of a vocabulary have their kinds.
bool is_column(const GgufValue* value, size_t column) {
  if (!value || !value->is_array()) return false;
  if (column == 0) return value->item_kind == GgufKind::text;
  const GgufKind kind = value->item_kind;
  const bool is_float = kind == GgufKind::float32 || kind == GgufKind::float64;
  const bool is_whole = scalar_bytes(kind) > 0 && !is_float && kind != GgufKind::boolean && kind != GgufKind::uint64;
  return is_whole || (is_float && column == 1);
}

std::vector<int32_t> piece_types(const GgufValue& column, const std::string& where) {
  const std::vector<int64_t> numbers = column.wholes().value();
  std::vector<int32_t> types(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < 1 || numbers[i] > 6)
      refuse(where, message("tokenizer.ggml.token_type holds ", numbers[i], ", expected 1 to 6. Convert it again."));
    types[i] = static_cast<int32_t>(numbers[i]);
  }
  return types;
}

// Why a file's metadata hold no SentencePiece vocabulary; empty where they do.
std::string gguf_problem(const GgufMetadata& metadata, const std::string& where) {
  const GgufValue* kind = metadata.find("tokenizer.ggml.model");
  if (!kind || kind->kind != GgufKind::text || kind->text != "llama")
    return sentence(where,
                    message("tokenizer.ggml.model is ", kind ? kind->shown() : "missing", ", expected \"llama\" ",
                                   "(SentencePiece byte-pair encoding). Gemma 1 to 3, Llama 2 and Mistral files have "
                                   "it."));
  size_t lengths[3] = {};
  const char* const keys[3] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
  for (size_t i = 0; i < 3; ++i) {
    const GgufValue* value = metadata.find(keys[i]);
    if (!is_column(value, i))
      return sentence(where, message(keys[i], " is ", value ? value->shown(40) : "missing", ", expected a list of ",
                                     i == 0 ? "texts" : "numbers", ", one for each piece. The file is damaged."));
    lengths[i] = value->count;
  }
  if (lengths[0] == 0 || lengths[0] != lengths[1] || lengths[0] != lengths[2])
    return sentence(where, message("tokenizer.ggml.tokens, scores and token_type have ", lengths[0], ", ", lengths[1],
                                   " and ", lengths[2], " entries, expected equally many, above 0."));
  for (const char* key : {"tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"})
    if (const GgufValue* value = metadata.find(key); value && (value->is_array() ? value->count : value->bits))
      return sentence(where, "the tokenizer rewrites text before it splits it, which Gemcut does not do.");
  return "";
}

int64_t gguf_token_id(const GgufMetadata& metadata, const std::string& key, size_t num_pieces,
                      const std::string& where) {
  const GgufValue* value = metadata.find("tokenizer.ggml." + key);
  if (!value) return -1;
  const auto id = value->whole();
  if (!id || *id < 0 || static_cast<size_t>(*id) >= num_pieces)
    refuse(where, message("tokenizer.ggml.", key, " is ", value->shown(), ", expected an id below ", num_pieces, "."));
  return *id;
}

// Whether a key holds something true; missing counts as true.
bool gguf_flag(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  return !value || value->number().value_or(1) != 0;
}

bool exists(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// A JSON file that holds an object; null where there is no such file.
Json read_object(const std::string& folder, const std::string& name) {
  if (!exists(folder + name)) return {};
  const std::string text = read_file(folder + name, kMaxJsonBytes, ErrorKind::tokenizer);
  Json data = Json::parse(text, name, ErrorKind::tokenizer);
  if (!data.is(Json::Kind::object))
    refuse(name, message("holds ", data.shown(40), ", expected a JSON object. Fetch it again."));
  return data;
}

// The settings of tokenizer_config.json, else of special_tokens_map.json; null counts as missing.
class Settings {
 public:
  Settings(Json config, Json special) : config_(std::move(config)), special_(std::move(special)) {}

  const Json* find(std::string_view key) const {
    for (const Json* file : {&config_, &special_})
      if (const Json* value = file->find(key); value && !value->is(Json::Kind::null)) return value;
    return nullptr;
  }

  std::optional<bool> flag(std::string_view key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is(Json::Kind::boolean))
      refuse(kFile, message(key, " is ", value->shown(), ", expected true or false. Fetch the file again."));
    return value->boolean();
  }

  // A token's piece, which is written as text or as an object with `content`; empty for none.
  std::string piece(std::string_view key) const {
    const Json* value = find(key);
    return value ? piece_of(*value) : "";
  }

  static std::string piece_of(const Json& token) {
    const Json* content = token.is(Json::Kind::object) ? token.find("content") : &token;
    if (!content || !content->is(Json::Kind::text))
      refuse(kFile, message("a token is ", token.shown(), ", expected text or an object with a text `content`. Fetch ",
                            "the file again."));
    return content->text();
  }

  static constexpr const char* kFile = "tokenizer_config.json";

 private:
  Json config_, special_;
};

int64_t added_token_id(const std::string& text) {
  int64_t id = -1;
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, id);
  if (problem != std::errc() || stop != end || id < 0)
    refuse(Settings::kFile, message("added_tokens_decoder has the key ", quoted(text), ", expected a token id. Fetch ",
                                    "the file again."));
  return id;
}

std::vector<AddedToken> added_tokens(const Settings& settings, const std::string& folder) {
  std::vector<AddedToken> result;
  const Json* decoder = settings.find("added_tokens_decoder");
  if (decoder && !decoder->is(Json::Kind::object))
    refuse(Settings::kFile, "added_tokens_decoder is not a mapping from token ids to tokens. Fetch the file again.");
  if (decoder && !decoder->keys().empty()) {
    for (size_t i = 0; i < decoder->keys().size(); ++i) {
      const Json& token = decoder->items()[i];
      const Json* special = token.find("special");
      result.push_back({added_token_id(decoder->keys()[i]), Settings::piece_of(token),
                        special && special->is(Json::Kind::boolean) && special->boolean()});
    }
  } else {
    const Json added = read_object(folder, "added_tokens.json");
    for (size_t i = 0; i < added.keys().size(); ++i) {
      const Json& id = added.items()[i];
      if (!id.is(Json::Kind::integer) || id.integer() < 0)
        refuse("added_tokens.json", message(quoted(added.keys()[i]), " has the id ", id.shown(), ", expected a whole ",
                                            "number of at least 0. Fetch the file again."));
      result.push_back({id.integer(), added.keys()[i], false});
    }
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.token_id < b.token_id; });
  return result;
}

// Of a template written as text, or of several named ones the one called "default".
std::string template_text(const Json* value, const char* file) {
  if (!value || value->is(Json::Kind::null)) return "";
  if (value->is(Json::Kind::text)) return value->text();
  if (!value->is(Json::Kind::array))
    refuse(file, message("chat_template is ", value->shown(40), ", expected text. Fetch the file again."));
  for (const Json& entry : value->items()) {
    const Json *name = entry.find("name"), *text = entry.find("template");
    if (name && name->is(Json::Kind::text) && name->text() == "default" && text) return template_text(text, file);
  }
  return "";
}

std::string chat_template(const Settings& settings, const std::string& folder) {
  if (exists(folder + "chat_template.jinja")) {
    std::string text = read_file(folder + "chat_template.jinja", kMaxTemplateBytes, ErrorKind::tokenizer);
    if (!is_utf8(text)) refuse("chat_template.jinja", "is not UTF-8 text. Fetch the file again.");
    return text;
  }
  std::string text = template_text(settings.find("chat_template"), Settings::kFile);
  if (!text.empty()) return text;
  const Json other = read_object(folder, "chat_template.json");
  return template_text(other.find("chat_template"), "chat_template.json");
}

}  // namespace

VocabularySource vocabulary_from_gguf(GgufMetadata& metadata, const std::string& where) {
  VocabularySource source;
  source.chat_template = metadata.text("tokenizer.chat_template").value_or("");
  source.note = gguf_problem(metadata, where);
  if (!source.note.empty()) return source;
  source.kind = VocabularySource::Kind::gguf;
  source.scores = metadata.find("tokenizer.ggml.scores")->floats().value();
  source.types = piece_types(*metadata.find("tokenizer.ggml.token_type"), where);
  source.pieces = metadata.take_texts("tokenizer.ggml.tokens");
  const size_t count = source.pieces.size();
  source.add_space_prefix = gguf_flag(metadata, "tokenizer.ggml.add_space_prefix");
  source.add_bos = gguf_flag(metadata, "tokenizer.ggml.add_bos_token");
  source.bos_token_id = gguf_token_id(metadata, "bos_token_id", count, where);
  source.eos_token_id = gguf_token_id(metadata, "eos_token_id", count, where);
  source.pad_token_id = gguf_token_id(metadata, "padding_token_id", count, where);
  source.unknown_token_id = gguf_token_id(metadata, "unknown_token_id", count, where);
  return source;
}

VocabularySource vocabulary_from_folder(const std::string& folder, std::string& model_bytes) {
  VocabularySource source;
  if (!exists(folder + "tokenizer.model")) {
    const bool json = exists(folder + "tokenizer.json");
    source.note = sentence(
        folder,
            json ? "has a tokenizer.json only, expected tokenizer.model, which this engine reads. Get it from where "
                       "the weights came from, or load the model from Python."
                     : "holds no tokenizer, expected tokenizer.model. Get the checkpoint's tokenizer files.");
    return source;
  }
  source.kind = VocabularySource::Kind::sentencepiece;
  model_bytes = read_file(folder + "tokenizer.model", kMaxModelBytes, ErrorKind::tokenizer);
  source.sentencepiece_model = model_bytes;
  const Settings settings(read_object(folder, Settings::kFile), read_object(folder, "special_tokens_map.json"));
  source.stated_add_bos = settings.flag("add_bos_token");
  source.add_bos = source.stated_add_bos.value_or(true);
  source.add_space_prefix = settings.flag("add_prefix_space").value_or(true);
  source.legacy = settings.flag("legacy").value_or(true);
  source.bos_token = settings.piece("bos_token");
  source.eos_token = settings.piece("eos_token");
  source.pad_token = settings.piece("pad_token");
  source.added_tokens = added_tokens(settings, folder);
  source.chat_template = chat_template(settings, folder);
  return source;
}

}  // namespace gemcut
