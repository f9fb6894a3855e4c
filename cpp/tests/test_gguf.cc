// The GGUF reader: what it finds in a whole file, and what it says of damaged ones.
#include "formats/gguf.h"

#include "tests/files.h"
#include "tests/testing.h"

using gemcut::GgufModel;
using gemcut::GgufValue;
using gemcut::read_gguf;
using gemcut::testing::Bytes;
using gemcut::testing::GgufBytes;
using gemcut::testing::TemporaryFolder;

namespace {

GgufModel read(const std::string& bytes) {
  const TemporaryFolder folder;
  return read_gguf(folder.write("m.gguf", bytes));
}

std::string header(uint64_t num_tensors, uint64_t num_keys, const std::string& rest = "", uint32_t version = 3) {
  return Bytes().raw("GGUF").add(version).add(num_tensors).add(num_keys).raw(rest).str();
}

std::string key(uint32_t type, const std::string& value) { return Bytes().text("k").add(type).raw(value).str(); }

// A file with one tensor of these sizes (innermost first), type and offset.
std::string one_tensor(const std::vector<uint64_t>& sizes, uint32_t type, uint64_t offset) {
  GgufBytes file;
  file.tensors.push_back({"t", sizes, type, offset});
  file.data = std::string(64, '\0');
  return file.str();
}

}  // namespace

TEST(gguf_reads_every_kind_of_value) {
  GgufBytes file;
  const auto add = [&](const char* name, uint32_t type, const Bytes& value) {
    file.keys.emplace_back(name, Bytes().add(type).raw(value.str()).str());
  };
  add("uint8", 0, Bytes().add<uint8_t>(200));
  add("int8", 1, Bytes().add<int8_t>(-3));
  add("uint16", 2, Bytes().add<uint16_t>(60000));
  add("int16", 3, Bytes().add<int16_t>(-300));
  add("uint32", 4, Bytes().add<uint32_t>(4000000000));
  add("int32", 5, Bytes().add<int32_t>(-70000));
  add("float32", 6, Bytes().add<float>(1e-6f));
  add("bool", 7, Bytes().add<uint8_t>(2));
  add("text", 8, Bytes().text("h\xC3\xA9"));
  add("list", 9, Bytes().add<uint32_t>(5).add<uint64_t>(2).add<int32_t>(7).add<int32_t>(-8));
  add("texts", 9, Bytes().add<uint32_t>(8).add<uint64_t>(2).text("").text("b"));
  add("uint64", 10, Bytes().add<uint64_t>(1ull << 63));
  add("int64", 11, Bytes().add<int64_t>(-5));
  add("float64", 12, Bytes().add<double>(0.1));
  const GgufModel model = read(file.str());
  const auto& metadata = model.metadata;
  CHECK_EQUAL(*metadata.find("uint8")->whole(), 200);
  CHECK_EQUAL(*metadata.find("int8")->whole(), -3);
  CHECK_EQUAL(*metadata.find("uint16")->whole(), 60000);
  CHECK_EQUAL(*metadata.find("int16")->whole(), -300);
  CHECK_EQUAL(*metadata.find("uint32")->whole(), 4000000000);
  CHECK_EQUAL(*metadata.find("int32")->whole(), -70000);
  CHECK_EQUAL(*metadata.find("float32")->number(), static_cast<double>(1e-6f));
  CHECK(!metadata.find("float32")->whole());
  CHECK_EQUAL(metadata.find("float32")->shown(), "1e-06");
  CHECK_EQUAL(*metadata.find("bool")->number(), 1.0);
  CHECK(!metadata.find("bool")->whole());
  CHECK_EQUAL(metadata.find("bool")->shown(), "true");
  CHECK_EQUAL(*metadata.text("text"), "h\xC3\xA9");
  CHECK(!metadata.text("list"));
  CHECK_EQUAL(metadata.find("list")->shown(), "[7, -8]");
  CHECK_EQUAL((*metadata.find("list")->wholes())[1], -8);
  CHECK_EQUAL((*metadata.find("list")->floats())[0], 7.0f);
  CHECK(!metadata.find("texts")->wholes());
  CHECK_EQUAL(metadata.find("texts")->shown(), "[\"\", \"b\"]");
  CHECK(!metadata.find("uint64")->whole());
  CHECK_EQUAL(*metadata.find("uint64")->number(), 9223372036854775808.0);
  CHECK_EQUAL(*metadata.find("int64")->whole(), -5);
  CHECK_EQUAL(*metadata.find("float64")->number(), 0.1);
  CHECK(metadata.find("nothing") == nullptr);
}

TEST(gguf_long_values_are_cut_in_messages) {
  GgufBytes file;
  file.key("text", std::string(200, 'x'));
  const GgufModel model = read(file.str());
  CHECK_EQUAL(model.metadata.find("text")->shown(10), "\"xxxxxxxxx...");
}

TEST(gguf_finds_tensors) {
  const GgufModel model = read(gemcut::testing::tiny_gguf().str());
  const gemcut::StoredTensor& embedding = model.stored.tensors[0];
  CHECK_EQUAL(embedding.name, "token_embd.weight");
  CHECK_EQUAL(gemcut::shape_text(embedding.shape), "(6, 4)");
  CHECK_EQUAL(embedding.type_name, "F32");
  CHECK_EQUAL(embedding.num_bytes, 96u);
  CHECK_EQUAL(embedding.offset % 32, 0u);
  float value = 0;
  model.stored.files[0]->read_at(embedding.offset, sizeof value, &value);
  CHECK_EQUAL(value, 0.5f);
}

TEST(gguf_types_it_does_not_compute_with_are_kept_by_name) {
  const GgufModel unknown = read(one_tensor({32}, 99, 0));
  CHECK_EQUAL(unknown.stored.tensors[0].type_name, "ggml type 99");
  CHECK(!unknown.stored.tensors[0].type);
  const GgufModel unread = read(one_tensor({32}, 9, 0));
  CHECK_EQUAL(unread.stored.tensors[0].type_name, "Q8_1");
  CHECK(!unread.stored.tensors[0].type);
}

TEST(gguf_refuses_other_files) {
  CHECK_THROWS(read(""), "the magic at byte 0 needs 4 bytes, the file has 0 more");
  CHECK_THROWS(read("PNG\x01............"), "begins with \"PNG?\", expected \"GGUF\". This is not a GGUF file.");
  CHECK_THROWS(read("\xFF\xFE\xFD\xFC"), "begins with \"bytes that are no text\"");
  CHECK_THROWS(read(header(0, 0, "", 1)), "is GGUF version 1, expected 2 or 3");
  CHECK_THROWS(read(header(0, 0, "", 0x03000000)), "is a big-endian GGUF file");
  CHECK_THROWS(read_gguf("/nowhere/m.gguf"), "[formats.mapped_file] /nowhere/m.gguf: no such file");
  CHECK(read(header(0, 0, "", 2)).stored.tensors.empty());
}

TEST(gguf_refuses_a_file_cut_anywhere) {
  const std::string whole = gemcut::testing::tiny_gguf().str();
  for (size_t size = 0; size < whole.size(); size += size < 1500 ? 1 : 37)
    CHECK_THROWS(read(whole.substr(0, size)), "[formats.gguf] m.gguf: ");
}

TEST(gguf_refuses_huge_counts) {
  CHECK_THROWS(read(header(1ull << 40, 0)), "claims a number of tensors of 1099511627776, expected at most 262144");
  CHECK_THROWS(read(header(0, 1ull << 40)),
               "claims a number of metadata keys of 1099511627776, expected at most 65536");
  CHECK_THROWS(read(header(0, 1, Bytes().add<uint64_t>(1 << 20).str())),
               "is 1048576 bytes long, expected at most 65536");
  CHECK_THROWS(read(header(0, 1, key(8, Bytes().add(UINT64_MAX).str()))),
               "the value of \"k\" at byte 45 needs 18446744073709551615 bytes, the file has 0 more");
  const auto list = [](uint32_t item, uint64_t count) { return Bytes().add(item).add(count).str(); };
  CHECK_THROWS(read(header(0, 1, key(9, list(5, 1ull << 60)))),
               "claims a length of the array \"k\" of 1152921504606846976");
  CHECK_THROWS(read(header(0, 1, key(9, list(5, 1 << 20)))), "the array \"k\" at byte 49 needs 4194304 bytes");
  CHECK_THROWS(read(header(0, 1, key(9, list(8, 1 << 20)))), "the length of item 0 of \"k\" at byte 49 needs 8 bytes");
}

TEST(gguf_refuses_wrong_kinds) {
  CHECK_THROWS(read(header(0, 1, key(13, ""))), "\"k\" has value type 13, expected 0 to 12");
  CHECK_THROWS(read(header(0, 1, key(9, Bytes().add<uint32_t>(9).add<uint64_t>(1).str()))),
               "\"k\" is an array of type 9, expected numbers, booleans or text");
  CHECK_THROWS(read(header(0, 1, key(8, Bytes().text("\xFF").str()))), "the value of \"k\" at byte 45 is not UTF-8");
  CHECK_THROWS(read(header(0, 2, key(0, "a") + key(0, "a"))), "metadata key \"k\" occurs twice");
  GgufBytes file;
  file.key("general.alignment", 33u);
  CHECK_THROWS(read(file.str()), "general.alignment is 33, expected a power of two up to 65536");
}

TEST(gguf_refuses_impossible_tensors) {
  CHECK_THROWS(read(one_tensor({}, 0, 0)), "claims a number of dimensions of \"t\" of 0, expected 1 to 4");
  CHECK_THROWS(read(one_tensor({1, 1, 1, 1, 1}, 0, 0)), "claims a number of dimensions of \"t\" of 5");
  CHECK_THROWS(read(one_tensor({0}, 0, 0)), "\"t\" has a dimension of 0");
  CHECK_THROWS(read(one_tensor({1ull << 63}, 0, 0)), "\"t\" has a dimension of 9223372036854775808");
  CHECK_THROWS(read(one_tensor({16}, 8, 0)), "\"t\" has rows of 16 numbers, expected a multiple of 32 for Q8_0");
  CHECK_THROWS(read(one_tensor({4}, 0, 8)), "\"t\" lies at offset 8, expected a multiple of 32");
  CHECK_THROWS(read(one_tensor({32}, 0, 32)), "\"t\" ends at byte 224, the file has 128");
  CHECK_THROWS(read(one_tensor({1ull << 62, 1ull << 62}, 0, 0)), "\"t\" ends at byte 2^64 or more");
  CHECK_THROWS(read(one_tensor({4}, 0, UINT64_MAX - 31)), "\"t\" ends at byte 2^64 or more");
  GgufBytes file;
  file.tensor("a", {16}).tensor("b", {16});
  file.tensors[1].offset = 32;
  CHECK_THROWS(read(file.str()), "\"a\" and \"b\" overlap");
  file.tensors[1].name = "a";
  CHECK_THROWS(read(file.str()), "tensor \"a\" occurs twice");
}

TEST(gguf_split_files_are_one_model) {
  const TemporaryFolder folder;
  const auto part = [&](uint32_t number, uint32_t count, const char* tensor, const char* name) {
    GgufBytes file;
    file.key("split.no", number).key("split.count", count).key("split.tensors.count", 2u).tensor(tensor, {4});
    return folder.write(name, file.str());
  };
  const std::string first = part(0, 2, "a", "m-00001-of-00002.gguf");
  CHECK_THROWS(read_gguf(first), "m-00002-of-00002.gguf: no such file");
  const std::string second = part(1, 2, "b", "m-00002-of-00002.gguf");
  const GgufModel model = read_gguf(second);
  CHECK_EQUAL(model.stored.files.size(), 2u);
  CHECK_EQUAL(model.stored.tensors[1].name, "b");
  CHECK_EQUAL(model.stored.tensors[1].file, 1u);
  part(1, 2, "a", "m-00002-of-00002.gguf");
  CHECK_THROWS(read_gguf(first), "m-00002-of-00002.gguf: \"a\" is also in m-00001-of-00002.gguf");
  part(0, 2, "b", "m-00002-of-00002.gguf");
  CHECK_THROWS(read_gguf(first), "m-00002-of-00002.gguf: says that it is part 0 of 2, expected part 1 of 2");
  CHECK_THROWS(read_gguf(part(0, 3, "a", "m.gguf")), "m.gguf: says that it is part 0 of 3, expected part 0 of 1");
  GgufBytes last;
  last.key("split.no", 1u).key("split.count", 2u);
  folder.write("m-00002-of-00002.gguf", last.str());
  CHECK_THROWS(read_gguf(first), "its parts hold 1 tensors, expected 2");
  CHECK_THROWS(read_gguf(folder.path() + "m-00000-of-00000.gguf"), "is named as one of 0 parts, expected at least 1");
}

TEST(gguf_names_of_parts) {
  using gemcut::split_files;
  CHECK_EQUAL(split_files("a/m-00002-of-00003.gguf")[0], "a/m-00001-of-00003.gguf");
  CHECK_EQUAL(split_files("m-00002-of-00003.gguf").size(), 3u);
  for (const char* name : {"m.gguf", "-00001-of-00002.gguf", "m-0001-of-00002.gguf", "m-0000a-of-00002.gguf",
                           "m-00001-of-00002.bin", "m_00001-of-00002.gguf"})
    CHECK_EQUAL(split_files(name)[0], name);
}
