// `gemcut-engine inspect`, `tokens` and `version`: what a model, a text and this program are.
#include <algorithm>
#include <cstdio>
#include <map>

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "engine/chat_markers.h"
#include "engine/machine.h"
#include "formats/json.h"
#include "formats/message.h"
#include "kernels/kernels.h"

namespace gemcut::cli {
namespace {

struct TypeShare {
  std::string name;
  int64_t num_tensors = 0, num_bytes = 0, num_weights = 0;
};

// By stored type, the largest share first.
std::vector<TypeShare> type_shares(const Checkpoint& checkpoint) {
  std::map<std::string, TypeShare> by_name;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    TypeShare& share = by_name[type_traits(tensor.type).name];
    share.name = type_traits(tensor.type).name;
    ++share.num_tensors;
    share.num_bytes += static_cast<int64_t>(tensor.num_bytes);
    share.num_weights += tensor.rows * tensor.columns;
  }
  std::vector<TypeShare> shares;
  for (const auto& [name, share] : by_name) shares.push_back(share);
  const auto is_larger = [](const TypeShare& a, const TypeShare& b) { return a.num_bytes > b.num_bytes; };
  std::stable_sort(shares.begin(), shares.end(), is_larger);
  return shares;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

std::string id_json(int32_t token_id) { return token_id < 0 ? "null" : message(token_id); }

std::string tokenizer_json(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  std::vector<std::string> stops;
  for (const int32_t id : stop_token_ids(checkpoint.config(), tokenizer)) stops.push_back(message(id));
  return message("{\"vocab_size\": ", tokenizer.vocab_size(), ", \"bos_token_id\": ", id_json(tokenizer.bos_token_id()),
                 ", \"eos_token_id\": ", id_json(tokenizer.eos_token_id()), ", \"pad_token_id\": ",
                 id_json(tokenizer.pad_token_id()), ", \"unknown_token_id\": ", id_json(tokenizer.unknown_token_id()),
                 ", \"add_bos\": ", tokenizer.add_bos() ? "true" : "false", ", \"chat_template\": ",
                 tokenizer.chat_template().empty() ? "false" : "true", ", \"stop_token_ids\": [", joined(stops), "]}");
}

std::string inspect_json(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  std::vector<std::string> types, unused, metadata;
  int64_t bytes = 0, weights = 0;
  for (const TypeShare& share : type_shares(checkpoint)) {
    bytes += share.num_bytes;
    weights += share.num_weights;
    types.push_back(message("{\"type\": ", json_text(share.name), ", \"tensors\": ", share.num_tensors,
                            ", \"bytes\": ", share.num_bytes, "}"));
  }
  for (const auto& [name, reason] : checkpoint.unused_tensors())
    unused.push_back(message("{\"name\": ", json_text(name), ", \"reason\": ", json_text(reason), "}"));
  for (const auto& [key, value] : checkpoint.metadata()) metadata.push_back(message(json_text(key), ": ", value));
  return message("{\"path\": ", json_text(checkpoint.path()), ", \"config\": ", config_to_json(checkpoint.config()),
                 ", \"parameters\": ", weights, ", \"bytes\": ", bytes, ", \"types\": [", joined(types),
                 "], \"tokenizer\": ", tokenizer ? tokenizer_json(checkpoint, *tokenizer) : "null", ", \"unused\": [",
                 joined(unused), "], \"metadata\": {", joined(metadata), "}}\n");
}

std::string inspect_text(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  const Json config = Json::parse(config_to_json(checkpoint.config()), "config", ErrorKind::failed);
  std::string text = checkpoint.path() + "\nconfiguration\n";
  for (size_t i = 0; i < config.keys().size(); ++i)
    text += message("  ", config.keys()[i], "  ", config.items()[i].shown(100), "\n");
  text += "tensors\n";
  for (const TypeShare& share : type_shares(checkpoint)) {
    char line[128];
    std::snprintf(line, sizeof line, "  %-8s %4lld tensors %12.2f MiB\n", share.name.c_str(),
                  static_cast<long long>(share.num_tensors), static_cast<double>(share.num_bytes) / (1 << 20));
    text += line;
  }
  for (const auto& [name, reason] : checkpoint.unused_tensors())
    text += message("  unused: ", name, " (", reason, ")\n");
  if (!tokenizer) return text + "tokenizer\n  none: " + checkpoint.vocabulary().note + "\n";
  return text + message("tokenizer\n  ", tokenizer->vocab_size(), " pieces, ", tokenizer->add_bos() ? "" : "no ",
                        "beginning-of-text token before a text, ",
                        tokenizer->chat_template().empty() ? "no " : "", "chat template\n");
}

std::string ids_json(const std::vector<int32_t>& token_ids) {
  std::vector<std::string> parts;
  for (const int32_t id : token_ids) parts.push_back(message(id));
  return message("[", joined(parts), "]");
}

}  // namespace

int inspect(const Arguments& arguments) {
  const auto checkpoint = Checkpoint::open(arguments.words()[0]);
  std::unique_ptr<Tokenizer> tokenizer;
  if (checkpoint->vocabulary().kind != VocabularySource::Kind::none)
    tokenizer = Tokenizer::make(checkpoint->vocabulary(), arguments.words()[0]);
  write_answer(arguments.has("--json") ? inspect_json(*checkpoint, tokenizer.get())
                                       : inspect_text(*checkpoint, tokenizer.get()));
  return 0;
}

int tokens(const Arguments& arguments) {
  const auto checkpoint = Checkpoint::open(arguments.words()[0]);
  const auto tokenizer = Tokenizer::make(checkpoint->vocabulary(), arguments.words()[0]);
  const bool as_json = arguments.has("--json"), parse_special = arguments.has("--parse-special");
  for (size_t number = 1; const std::optional<std::string> line = read_line(""); ++number) {
    const std::string where = message("line ", number);
    const Json value = as_json ? Json::parse(*line, where, ErrorKind::checkpoint) : Json();
    if (as_json && !value.is(Json::Kind::text))
      throw DataError(message("[cli.inspect] ", where, " is ", value.shown(40), ", expected a JSON text. Put it into ",
                              "quotes."));
    write_answer(ids_json(tokenizer->encode(as_json ? value.text() : *line, parse_special, false)) + "\n");
  }
  return 0;
}

int version(const Arguments& arguments) {
  const std::string isa = choose_kernels().name;
  if (arguments.has("--json"))
    write_answer(message("{\"version\": ", json_text(kVersion), ", \"isa\": ", json_text(isa), ", \"processor\": ",
                         json_text(cpu_model()), ", \"cores\": ", usable_cores(), "}\n"));
  else
    write_answer(message("gemcut-engine ", kVersion, "\n", cpu_model(), ", ", usable_cores(), " cores, ", isa, "\n"));
  return 0;
}

}  // namespace gemcut::cli
