// Opening checkpoints of both formats, their vocabularies, and files that change meanwhile.
#include "formats/checkpoint.h"

#include <cstring>
#include <filesystem>

#include <unistd.h>

#include "tests/files.h"
#include "tests/testing.h"

using gemcut::Checkpoint;
using gemcut::VocabularySource;
using gemcut::testing::GgufBytes;
using gemcut::testing::safetensors_bytes;
using gemcut::testing::TemporaryFolder;
using gemcut::testing::tiny_config;
using gemcut::testing::tiny_gguf;
using gemcut::testing::tiny_tensors;

namespace {

void write_tiny(const TemporaryFolder& folder) {
  folder.write("model.safetensors", safetensors_bytes(tiny_tensors()));
  folder.write("config.json", tiny_config());
}

std::unique_ptr<Checkpoint> open_with(const TemporaryFolder& folder, const std::string& name, const std::string& text) {
  folder.write(name, text);
  return Checkpoint::open(folder.path());
}

}  // namespace

TEST(checkpoint_opens_gguf) {
  const TemporaryFolder folder;
  const auto checkpoint = Checkpoint::open(folder.write("m.gguf", tiny_gguf().str()));
  CHECK_EQUAL(checkpoint->config().hidden_size, 4);
  CHECK_EQUAL(checkpoint->config().rms_norm_eps, 1e-6);
  CHECK_EQUAL(checkpoint->tensors().size(), 11u);
  const gemcut::Tensor& norm = checkpoint->tensors().at("model.norm.weight");
  float value = 0;
  std::memcpy(&value, norm.data, sizeof value);
  CHECK_EQUAL(value, 1.5f);
  CHECK(norm.transform == gemcut::Transform::minus_one);
  CHECK_EQUAL(checkpoint->metadata()[0].second, "\"gemma\"");
  CHECK(checkpoint->unused_tensors().empty());
  CHECK_EQUAL(checkpoint->path(), folder.path() + "m.gguf");
}

TEST(checkpoint_opens_a_folder_of_either_format) {
  const TemporaryFolder gguf, hf;
  gguf.write("m.gguf", tiny_gguf().str());
  gguf.write("mmproj-m.gguf", "a vision projector");
  CHECK_EQUAL(Checkpoint::open(gguf.path())->tensors().size(), 11u);
  write_tiny(hf);
  hf.write("consolidated.safetensors", "the same again");
  const auto checkpoint = Checkpoint::open(hf.path());
  CHECK_EQUAL(checkpoint->tensors().size(), 11u);
  CHECK_EQUAL(checkpoint->metadata()[0].first, "config.json");
  CHECK_EQUAL(Checkpoint::open(hf.path() + "model.safetensors")->config().vocab_size, 6);
}

TEST(checkpoint_opens_shards_from_any_of_them) {
  const TemporaryFolder folder;
  auto tensors = tiny_tensors();
  const auto last = tensors.back();
  tensors.pop_back();
  folder.write("model-00001-of-00002.safetensors", safetensors_bytes(tensors));
  folder.write("model-00002-of-00002.safetensors", safetensors_bytes({last}));
  folder.write("config.json", tiny_config());
  CHECK_THROWS(Checkpoint::open(folder.path() + "model-00001-of-00002.safetensors"), "1 of 11 tensors are missing");
  std::string map;
  for (const auto& [name, shape] : tensors)
    map += "\"" + name + "\": \"model-00001-of-00002.safetensors\", ";
  folder.write("model.safetensors.index.json",
               "{\"weight_map\": {" + map + "\"" + last.first + "\": \"model-00002-of-00002.safetensors\"}}");
  CHECK_EQUAL(Checkpoint::open(folder.path())->tensors().at(last.first).file, 1u);
  CHECK_EQUAL(Checkpoint::open(folder.path() + "model-00002-of-00002.safetensors")->tensors().size(), 11u);
}

TEST(checkpoint_refuses_what_is_none) {
  const TemporaryFolder folder;
  CHECK_THROWS(Checkpoint::open("/nowhere/x"), "/nowhere/x: no such file");
  CHECK_THROWS(Checkpoint::open("/dev/null"), "/dev/null: is a folder or a device, expected a file");
  CHECK_THROWS(Checkpoint::open(folder.path()), "holds no weights, expected model.safetensors");
  folder.write("pytorch_model.bin", "PK\x03\x04...");
  CHECK_THROWS(Checkpoint::open(folder.path()), "holds torch files, expected safetensors or GGUF");
  CHECK_THROWS(Checkpoint::open(folder.path() + "pytorch_model.bin"), "is a torch file, expected safetensors or GGUF");
  CHECK_THROWS(Checkpoint::open(folder.write("notes.txt", "hello")), "begins with no mark of a known format (5 bytes)");
  CHECK_THROWS(Checkpoint::open(folder.write("m.gguf", "hello")), "[formats.gguf] m.gguf: begins with \"hell\"");
  CHECK_THROWS(Checkpoint::open(folder.write("m.safetensors", "hello")), "m.safetensors: is 5 bytes");
  folder.write("n.safetensors", "hello");
  CHECK_THROWS(Checkpoint::open(folder.path()), "has 2 checkpoints (m.safetensors, n.safetensors), expected one");
}

TEST(checkpoint_needs_its_configuration) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_bytes(tiny_tensors()));
  CHECK_THROWS(Checkpoint::open(folder.path()),
               "config.json: no such file, expected the configuration of model.safetensors");
  CHECK_THROWS(open_with(folder, "config.json", "{"), "[formats.json] config.json: is not valid JSON");
  CHECK_THROWS(open_with(folder, "config.json", R"({"model_type": "bert"})"), "model_type is \"bert\"");
}

TEST(checkpoint_copies_parts_of_tensors) {
  const TemporaryFolder folder;
  const auto checkpoint = Checkpoint::open(folder.write("m.gguf", tiny_gguf().str()));
  const gemcut::Tensor& tensor = checkpoint->tensors().at("model.layers.0.input_layernorm.weight");
  float values[2] = {};
  checkpoint->copy(tensor, 8, 8, reinterpret_cast<std::byte*>(values));
  CHECK_EQUAL(values[1], 1.25f);
  std::byte out[32];
  CHECK_THROWS(checkpoint->copy(tensor, 12, 8, out), "bytes 12 to 12 + 8 were asked for, expected a part of its 16");
  CHECK_THROWS(checkpoint->copy(tensor, SIZE_MAX, 8, out), "expected a part of its 16");
}

TEST(checkpoint_tells_of_files_that_changed) {
  const TemporaryFolder folder;
  const std::string path = folder.write("m.gguf", tiny_gguf().str());
  const auto checkpoint = Checkpoint::open(path);
  checkpoint->check_unchanged();
  checkpoint->release_pages();
  const std::string before = checkpoint->fingerprint();
  CHECK_EQUAL(before.size(), 32u);
  CHECK_EQUAL(before, Checkpoint::open(path)->fingerprint());
  CHECK(truncate(path.c_str(), 200) == 0);
  CHECK_THROWS(checkpoint->check_unchanged(), "m.gguf: was changed after it was opened (it has 200 bytes, expected ");
  const gemcut::Tensor& tensor = checkpoint->tensors().at("model.layers.0.mlp.down_proj.weight");
  std::byte out[4];
  CHECK_THROWS(checkpoint->copy(tensor, 0, 4, out),
               "expected 4 more. The file is cut short, or was changed after it was opened");
  CHECK_THROWS(checkpoint->fingerprint(), "The file is cut short, or was changed after it was opened");
  // What was parsed is a copy.
  CHECK_EQUAL(checkpoint->vocabulary().pieces[5], "ab");
}

TEST(checkpoint_fingerprints_differ_where_bytes_do) {
  const TemporaryFolder folder;
  GgufBytes file = tiny_gguf();
  const std::string path = folder.write("m.gguf", file.str());
  const auto time = std::filesystem::last_write_time(path);
  const std::string before = Checkpoint::open(path)->fingerprint();
  file.data.back() ^= 1;
  folder.write("m.gguf", file.str());
  std::filesystem::last_write_time(path, time);
  CHECK(Checkpoint::open(path)->fingerprint() != before);
}

TEST(checkpoint_vocabulary_of_gguf) {
  const TemporaryFolder folder;
  GgufBytes file = tiny_gguf();
  file.key("tokenizer.chat_template", std::string("{{ x }}"));
  const auto checkpoint = Checkpoint::open(folder.write("m.gguf", file.str()));
  const VocabularySource& vocabulary = checkpoint->vocabulary();
  CHECK(vocabulary.kind == VocabularySource::Kind::gguf);
  CHECK_EQUAL(vocabulary.pieces.size(), 6u);
  CHECK_EQUAL(vocabulary.pieces[1], "<eos>");
  CHECK_EQUAL(vocabulary.scores[3], -3.0f);
  CHECK_EQUAL(vocabulary.types[0], 2);
  CHECK_EQUAL(vocabulary.bos_token_id, 2);
  CHECK_EQUAL(vocabulary.eos_token_id, 1);
  CHECK_EQUAL(vocabulary.pad_token_id, -1);
  CHECK(vocabulary.add_bos && vocabulary.add_space_prefix);
  CHECK_EQUAL(vocabulary.chat_template, "{{ x }}");
}

TEST(checkpoint_without_a_sentencepiece_vocabulary_says_why) {
  const TemporaryFolder folder;
  const auto note = [&folder](const std::string& key, const std::string& value) {
    GgufBytes file = tiny_gguf();
    std::erase_if(file.keys, [&key](const auto& entry) { return entry.first == key; });
    if (!value.empty()) file.keys.emplace_back(key, value);
    const auto checkpoint = Checkpoint::open(folder.write("m.gguf", file.str()));
    CHECK(checkpoint->vocabulary().kind == VocabularySource::Kind::none);
    return checkpoint->vocabulary().note;
  };
  using gemcut::testing::Bytes;
  CHECK(note("tokenizer.ggml.model", Bytes().add<uint32_t>(8).text("gpt2").str())
            .starts_with("[formats.vocabulary] m.gguf: tokenizer.ggml.model is \"gpt2\", expected \"llama\""));
  CHECK(note("tokenizer.ggml.scores", "").find("tokenizer.ggml.scores is missing, expected a list of numbers") < 80);
  CHECK(note("tokenizer.ggml.scores", Bytes().add<uint32_t>(9).add<uint32_t>(6).add<uint64_t>(0).str())
            .find("have 6, 0 and 6 entries, expected equally many") != std::string::npos);
  CHECK(note("tokenizer.ggml.remove_extra_whitespaces", Bytes().add<uint32_t>(7).add<uint8_t>(1).str())
            .find("rewrites text before it splits it") != std::string::npos);
}

TEST(checkpoint_refuses_impossible_vocabularies) {
  const TemporaryFolder folder;
  const auto open = [&folder](const std::string& key, const std::string& value) {
    GgufBytes file = tiny_gguf();
    std::erase_if(file.keys, [&key](const auto& entry) { return entry.first == key; });
    file.keys.emplace_back(key, value);
    Checkpoint::open(folder.write("m.gguf", file.str()));
  };
  using gemcut::testing::Bytes;
  CHECK_THROWS(open("tokenizer.ggml.bos_token_id", Bytes().add<uint32_t>(4).add<uint32_t>(6).str()),
               "[formats.vocabulary] m.gguf: tokenizer.ggml.bos_token_id is 6, expected an id below 6");
  Bytes types = Bytes().add<uint32_t>(9).add<uint32_t>(5).add<uint64_t>(6);
  for (int i = 0; i < 6; ++i) types.add<int32_t>(7);
  CHECK_THROWS(open("tokenizer.ggml.token_type", types.str()), "tokenizer.ggml.token_type holds 7, expected 1 to 6");
}

TEST(checkpoint_vocabulary_of_a_folder) {
  const TemporaryFolder folder;
  write_tiny(folder);
  CHECK(Checkpoint::open(folder.path())->vocabulary().note.find("holds no tokenizer") != std::string::npos);
  CHECK(open_with(folder, "tokenizer.json",
                  "{}")->vocabulary().note.find("has a tokenizer.json only") != std::string::npos);
  folder.write("tokenizer.model", "bytes");
  folder.write("special_tokens_map.json", R"({"pad_token": "<pad>", "bos_token": "<no>"})");
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "<bos>"}, "eos_token": "<eos>", "legacy": null,
    "add_bos_token": false, "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}],
    "added_tokens_decoder": {"107": {"content": "<b>"}, "9": {"content": "<a>", "special": true}}})");
  const auto checkpoint = Checkpoint::open(folder.path());
  const VocabularySource& vocabulary = checkpoint->vocabulary();
  CHECK(vocabulary.kind == VocabularySource::Kind::sentencepiece);
  CHECK_EQUAL(vocabulary.sentencepiece_model, "bytes");
  CHECK_EQUAL(vocabulary.bos_token + vocabulary.eos_token + vocabulary.pad_token, "<bos><eos><pad>");
  CHECK(vocabulary.stated_add_bos == false && !vocabulary.add_bos && vocabulary.legacy);
  CHECK_EQUAL(vocabulary.added_tokens[0].piece, "<a>");
  CHECK(vocabulary.added_tokens[0].special && !vocabulary.added_tokens[1].special);
  CHECK_EQUAL(vocabulary.added_tokens[1].token_id, 107);
  CHECK_EQUAL(vocabulary.chat_template, "d");
  CHECK_EQUAL(open_with(folder, "chat_template.jinja", "j")->vocabulary().chat_template, "j");
}

TEST(checkpoint_vocabulary_files_of_older_kinds) {
  const TemporaryFolder folder;
  write_tiny(folder);
  folder.write("tokenizer.model", "bytes");
  folder.write("added_tokens.json", R"({"<x>": 8, "<y>": 7})");
  const auto checkpoint = open_with(folder, "chat_template.json", R"({"chat_template": "c"})");
  CHECK_EQUAL(checkpoint->vocabulary().chat_template, "c");
  CHECK_EQUAL(checkpoint->vocabulary().added_tokens[0].piece, "<y>");
  CHECK(checkpoint->vocabulary().add_bos && !checkpoint->vocabulary().stated_add_bos);
}

TEST(checkpoint_refuses_damaged_tokenizer_files) {
  const TemporaryFolder folder;
  write_tiny(folder);
  folder.write("tokenizer.model", "bytes");
  const auto config = [&folder](const std::string& text) { open_with(folder, "tokenizer_config.json", text); };
  CHECK_THROWS(config("[]"), "[formats.vocabulary] tokenizer_config.json: holds [], expected a JSON object");
  CHECK_THROWS(config(R"({"add_bos_token": 1})"), "add_bos_token is 1, expected true or false");
  CHECK_THROWS(config(R"({"bos_token": 1})"), "a token is 1, expected text or an object with a text `content`");
  CHECK_THROWS(config(R"({"bos_token": {}})"), "a token is {}, expected text");
  CHECK_THROWS(config(R"({"added_tokens_decoder": [1]})"), "added_tokens_decoder is not a mapping");
  CHECK_THROWS(config(R"({"added_tokens_decoder": {"x": "a"}})"),
               "added_tokens_decoder has the key \"x\", expected a token id");
  CHECK_THROWS(config(R"({"chat_template": 1})"), "chat_template is 1, expected text");
  folder.write("added_tokens.json", R"({"<x>": -8})");
  CHECK_THROWS(config("{}"), "added_tokens.json: \"<x>\" has the id -8, expected a whole number of at least 0");
  folder.write("added_tokens.json", "{}");
  folder.write("chat_template.jinja", "\xFF");
  CHECK_THROWS(config("{}"), "chat_template.jinja: is not UTF-8 text");
  folder.write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
  CHECK_THROWS(config("{}"), "chat_template.jinja: is 1048577 bytes, expected at most 1048576");
}
