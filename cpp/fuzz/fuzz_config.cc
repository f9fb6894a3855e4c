// Any bytes as a config.json: a configuration that can be written and checked again, or a named error.
#include "formats/config_readers.h"
#include "formats/error.h"
#include "formats/names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t num_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), num_bytes);
  try {
    const auto data = gemcut::Json::parse(text, "input", gemcut::ErrorKind::config);
    // What is shown is JSON too, and the same when it is shown again.
    const std::string shown = data.shown(SIZE_MAX - 1);
    if (gemcut::Json::parse(shown, "shown", gemcut::ErrorKind::config).shown(SIZE_MAX - 1) != shown) __builtin_trap();
    const gemcut::Config config = gemcut::config_from_huggingface(data, "input");
    gemcut::check_config(config, "input");
    gemcut::Json::parse(gemcut::config_to_json(config), "written", gemcut::ErrorKind::failed);
    gemcut::parameters(config, "input");
  } catch (const gemcut::Error& error) {
    if (error.kind() != gemcut::ErrorKind::config) __builtin_trap();
  }
  return 0;
}
