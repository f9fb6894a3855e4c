// Any bytes as a GGUF file: opened, every weight read, the tokenizer made, or a named error.
#include <algorithm>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/error.h"
#include "formats/tokenizer.h"
#include "fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t num_bytes) {
  static gemcut::fuzz::InputFile file;
  try {
    const auto checkpoint = gemcut::Checkpoint::open(file.write(bytes, num_bytes));
    for (const auto& [name, tensor] : checkpoint->tensors()) {
      std::vector<std::byte> stored(tensor.num_bytes);
      checkpoint->copy(tensor, 0, stored.size(), stored.data());
      if (!std::equal(stored.begin(), stored.end(), tensor.data)) __builtin_trap();
      std::vector<float> row(static_cast<size_t>(tensor.columns));
      gemcut::dequantize_row(tensor.type, stored.data(), tensor.columns, row.data());
    }
    checkpoint->check_unchanged();
    if (checkpoint->fingerprint().size() != 32) __builtin_trap();
    gemcut::Tokenizer::make(checkpoint->vocabulary(), "input")->encode("ab a <bos>", true);
  } catch (const gemcut::Error& error) {
    if (std::string_view(error.what()).substr(0, 1) != "[") __builtin_trap();
  }
  return 0;
}
