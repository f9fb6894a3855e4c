// Any bytes as a safetensors file: matched with a small decoder, or a named error.
#include "formats/config_readers.h"
#include "formats/error.h"
#include "formats/names.h"
#include "formats/safetensors.h"
#include "fuzz/input_file.h"

namespace {
gemcut::Config small_config() {
  const auto data = gemcut::Json::parse(
      R"({"model_type": "gemma", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1,
          "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2})",
      "config", gemcut::ErrorKind::failed);
  return gemcut::config_from_huggingface(data, "config");
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t num_bytes) {
  static gemcut::fuzz::InputFile file;
  static const gemcut::Config config = small_config();
  try {
    const gemcut::StoredModel model = gemcut::read_safetensors(file.write(bytes, num_bytes));
    for (const gemcut::StoredTensor& tensor : model.tensors)
      if (tensor.offset + tensor.num_bytes > num_bytes) __builtin_trap();
    gemcut::match_tensors(model, gemcut::Naming::huggingface, config, "input");
  } catch (const gemcut::Error& error) {
    if (std::string_view(error.what()).substr(0, 1) != "[") __builtin_trap();
  }
  return 0;
}
