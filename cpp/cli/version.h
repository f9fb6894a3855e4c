// The version of this release. Written by scripts/cpp_text_tables.py from src/gemcut; do not edit.
#pragma once

#include <string_view>

namespace gemcut {

inline constexpr std::string_view kVersion = "0.1.0.dev0";

}  // namespace gemcut
