// The safetensors reader: one file, shards, and what it says of damaged ones.
#include "formats/safetensors.h"

#include "tests/files.h"
#include "tests/testing.h"

using gemcut::read_safetensors;
using gemcut::StoredModel;
using gemcut::testing::Bytes;
using gemcut::testing::safetensors_bytes;
using gemcut::testing::TemporaryFolder;

namespace {

StoredModel read(const std::string& header, const std::string& data = "") {
  const TemporaryFolder folder;
  return read_safetensors(folder.write("m.safetensors", Bytes().text(header).raw(data).str()));
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"t\": {\"dtype\": \"" + dtype + "\", \"shape\": " + shape + ", \"data_offsets\": " + offsets + "}}";
}

}  // namespace

TEST(safetensors_reads_types_and_places) {
  const StoredModel model = read(
      R"({"__metadata__": {"format": "pt"}, "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
          "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
          "c": {"dtype": "I8", "shape": [0, 5], "data_offsets": [16, 16]}})",
      std::string(16, 'x'));
  CHECK_EQUAL(model.tensors.size(), 3u);
  CHECK_EQUAL(model.tensors[0].name, "b");
  CHECK(model.tensors[0].type == gemcut::TensorType::bf16);
  CHECK_EQUAL(model.tensors[0].offset, model.header_bytes[0] + 4);
  CHECK_EQUAL(model.tensors[0].num_bytes, 12u);
  CHECK(!model.tensors[2].type);
  CHECK_EQUAL(model.tensors[2].type_name, "I8");
  CHECK_EQUAL(gemcut::shape_text(model.tensors[0].shape), "(2, 3)");
}

TEST(safetensors_refuses_damaged_headers) {
  const TemporaryFolder folder;
  CHECK_THROWS(read_safetensors(folder.write("m.safetensors", "abc")),
               "m.safetensors: is 3 bytes, expected at least 8");
  CHECK_THROWS(read_safetensors(folder.write("m.safetensors", Bytes().add(UINT64_MAX).str())),
               "claims a header of 18446744073709551615 bytes, expected at most 100000000");
  CHECK_THROWS(read_safetensors(folder.write("m.safetensors", Bytes().add<uint64_t>(9).raw("{}").str())),
               "its header needs 17 bytes, the file has 10");
  CHECK_THROWS(read("{"), "[formats.json] m.safetensors: header: is not valid JSON");
  CHECK_THROWS(read("[]"), "its header is [], expected a JSON object");
  CHECK_THROWS(read(R"({"__metadata__": {"a": 1}})"), "__metadata__ is not a mapping from text to text");
  CHECK_THROWS(read(R"({"__metadata__": []})"), "__metadata__ is not a mapping from text to text");
}

TEST(safetensors_refuses_impossible_entries) {
  CHECK_THROWS(read(R"({"t": 1})"), "the entry of \"t\" is not {dtype, shape, data_offsets}");
  CHECK_THROWS(read(R"({"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1}})"), "the entry of \"t\"");
  CHECK_THROWS(read(entry("F4", "[1]", "[0, 4]"), "...."), "\"t\" has dtype \"F4\", expected one of BF16, BOOL");
  CHECK_THROWS(read(entry("F32", "[-1]", "[0, 4]"), "...."), "\"t\" has shape [-1], expected a list of sizes");
  CHECK_THROWS(read(entry("F32", "[1.5]", "[0, 4]"), "...."), "\"t\" has shape [1.5]");
  CHECK_THROWS(read(entry("F32", "[1]", "[0]"), "...."), "\"t\" has data_offsets [0], expected [begin, end]");
  CHECK_THROWS(read(entry("F32", "[1]", "[4, 0]"), "...."), "\"t\" holds -4 bytes, expected 4 for F32 of shape (1)");
  CHECK_THROWS(read(entry("F32", "[2]", "[0, 4]"), "...."), "\"t\" holds 4 bytes, expected 8 for F32 of shape (2)");
  CHECK_THROWS(read(entry("F32", "[4611686018427387904, 4611686018427387904]", "[0, 4]"), "...."),
               "\"t\" holds 4 bytes, expected more than 2^64");
}

TEST(safetensors_refuses_gaps_overlaps_and_rests) {
  CHECK_THROWS(read(entry("F32", "[1]", "[0, 4]"), "..."),
               "its tensors need 4 bytes, the file has 3. The file is cut short.");
  CHECK_THROWS(read(entry("F32", "[1]", "[0, 4]"), "....."), "the file has 5. The rest belongs to no tensor.");
  CHECK_THROWS(read(entry("F32", "[1]", "[4, 8]"), "........"),
               "\"t\" begins at byte 4 of the data and leaves a gap after the header, which ends at 0");
  CHECK_THROWS(read(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                        "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}})", "......"),
               "\"b\" begins at byte 2 of the data and overlaps \"a\", which ends at 4");
}

TEST(safetensors_refuses_a_file_cut_anywhere) {
  const TemporaryFolder folder;
  const std::string whole = safetensors_bytes({{"a", {2, 2}}, {"b", {3}}});
  for (size_t size = 0; size < whole.size(); ++size)
    CHECK_THROWS(read_safetensors(folder.write("m.safetensors", whole.substr(0, size))), "m.safetensors");
}

TEST(safetensors_reads_shards_through_their_index) {
  const TemporaryFolder folder;
  folder.write("m-1.safetensors", safetensors_bytes({{"a", {2}}}));
  folder.write("m-2.safetensors", safetensors_bytes({{"b", {3}}}));
  const auto index = [&](const std::string& map) {
    return folder.write("m.safetensors.index.json", "{\"weight_map\": " + map + "}");
  };
  const StoredModel model = read_safetensors(index(R"({"a": "m-1.safetensors", "b": "m-2.safetensors"})"));
  CHECK_EQUAL(model.files.size(), 2u);
  CHECK_EQUAL(model.tensors[1].name, "b");
  CHECK_EQUAL(model.tensors[1].file, 1u);
  CHECK_THROWS(read_safetensors(index(R"({"a": "m-2.safetensors", "b": "m-2.safetensors"})")),
               "m-2.safetensors: has no \"a\", which m.safetensors.index.json says it has");
  CHECK_THROWS(read_safetensors(index(R"({"a": "m-3.safetensors"})")), "m-3.safetensors: no such file");
  CHECK_THROWS(read_safetensors(index(R"({"a": "../m-1.safetensors"})")),
               "\"a\" is said to be in \"../m-1.safetensors\", expected a file in the same folder");
  CHECK_THROWS(read_safetensors(index(R"({"a": 1})")), "\"a\" is said to be in 1");
  CHECK_THROWS(read_safetensors(index("{}")), "m.safetensors.index.json: has no \"weight_map\"");
  folder.write("m-2.safetensors", safetensors_bytes({{"a", {3}}, {"b", {3}}}));
  CHECK_THROWS(read_safetensors(index(R"({"a": "m-1.safetensors", "b": "m-2.safetensors"})")),
               "m-2.safetensors: \"a\" is also in m-1.safetensors, expected each tensor once");
}
