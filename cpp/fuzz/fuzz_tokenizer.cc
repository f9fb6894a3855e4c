// Any bytes as tokenizer_config.json, a zero byte, a text to encode, a zero byte and tokenizer.model: ids that give the
// text back, or a named error.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "formats/error.h"
#include "formats/tokenizer.h"
#include "formats/vocabulary.h"

namespace {

// A folder for the files of every input; it goes with the process.
struct Folder {
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path().string() + "/gemcut-fuzz-XXXXXX";
    if (!mkdtemp(pattern.data())) std::abort();
    path = pattern + "/";
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t num_bytes) {
  static const Folder folder;
  const std::string_view input(reinterpret_cast<const char*>(bytes), num_bytes);
  const size_t first = std::min(input.find('\0'), num_bytes);
  const size_t second = std::min(input.find('\0', first + 1), num_bytes);
  const std::string_view config = input.substr(0, first);
  const std::string_view text = first < second ? input.substr(first + 1, second - first - 1) : std::string_view();
  const std::string_view model = second < num_bytes ? input.substr(second + 1) : std::string_view();
  std::ofstream(folder.path + "tokenizer_config.json", std::ios::binary) << config;
  std::ofstream(folder.path + "tokenizer.model", std::ios::binary) << model;
  try {
    std::string model_bytes;
    const auto source = gemcut::vocabulary_from_folder(folder.path, model_bytes);
    const auto tokenizer = gemcut::Tokenizer::make(source, "input");
    for (const bool parse_special : {false, true}) {
      const auto token_ids = tokenizer->encode(text, parse_special);
      for (const int32_t token_id : token_ids)
        if (token_id < 0 || token_id >= tokenizer->vocab_size()) __builtin_trap();
      tokenizer->decode(token_ids);
    }
  } catch (const gemcut::Error& error) {
    if (error.kind() != gemcut::ErrorKind::tokenizer) __builtin_trap();
  }
  return 0;
}
