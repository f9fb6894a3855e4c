// Chat formats of the families. Written by scripts/cpp_text_tables.py from src/gemcut/text; do not edit.
#pragma once

#include <string_view>

namespace gemcut {

// How a family writes a conversation: the texts between contents, control tokens as their pieces, {bos}
// and {eos} for the reserved ones. An empty system_before: the family has no system role.
struct ChatFormat {
  std::string_view model_type;
  std::string_view needed_piece;  // only vocabularies with this control token have the format; empty: any
  std::string_view first_before, user_assistant, assistant_user, last_after;
  std::string_view system_before, system_user;
  struct Trim {
    bool left, right;
  };
  Trim user, assistant, system, user_after_system;  // white space that is cut off a content
};

inline constexpr ChatFormat kChatFormats[] = {
    {"gemma3", "<start_function_declaration>",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "{bos}<start_of_turn>developer\n", "<end_of_turn>\n<start_of_turn>user\n",
     {true, true}, {true, true}, {true, true}, {true, true}},
    {"gemma3_text", "<start_function_declaration>",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "{bos}<start_of_turn>developer\n", "<end_of_turn>\n<start_of_turn>user\n",
     {true, true}, {true, true}, {true, true}, {true, true}},
    {"gemma", "",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "", "",
     {true, true}, {true, true}, {false, false}, {false, false}},
    {"gemma2", "",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "", "",
     {true, true}, {true, true}, {false, false}, {false, false}},
    {"gemma3", "",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "{bos}<start_of_turn>user\n", "\n\n",
     {true, true}, {true, true}, {false, false}, {true, true}},
    {"gemma3_text", "",
     "{bos}<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
     "{bos}<start_of_turn>user\n", "\n\n",
     {true, true}, {true, true}, {false, false}, {true, true}},
    {"llama", "",
     "{bos}[INST] ", " [/INST] ",
     " {eos}{bos}[INST] ", " [/INST]",
     "{bos}[INST] <<SYS>>\n", "\n<</SYS>>\n\n",
     {true, true}, {true, true}, {false, false}, {false, true}},
    {"mistral", "",
     "{bos}[INST] ", " [/INST]",
     "{eos}[INST] ", " [/INST]",
     "", "",
     {false, false}, {false, false}, {false, false}, {false, false}},
};

}  // namespace gemcut
