// Pieces and characters that mean something. Written by scripts/cpp_text_tables.py from src/gemcut/text; do not edit.
#pragma once

#include <string_view>

namespace gemcut {

// Tags of Gemma's vocabularies that are text and not control tokens.
inline constexpr std::string_view kHtmlTags[] = {
    "a", "b", "bbox", "blockquote", "body", "caption", "code", "div", "em", "footer", "h1", "h2", "h3", "h4",
    "h5", "h6", "html", "i", "iframe", "img", "li", "s", "span", "strong", "sub", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "u", "ul",
};

// Control tokens that end an answer.
inline constexpr std::string_view kEndPieces[] = {
    "<eos>", "</s>", "<end_of_turn>", "<turn|>", "<start_function_response>",
};

// Characters that count as white space.
inline constexpr std::string_view kWhitespace[] = {
    "\t", "\n", "\013", "\014", "\r", "\034", "\035", "\036", "\037", " ", "\302\205", "\302\240",
    "\341\232\200", "\342\200\200", "\342\200\201", "\342\200\202", "\342\200\203", "\342\200\204",
    "\342\200\205", "\342\200\206", "\342\200\207", "\342\200\210", "\342\200\211", "\342\200\212",
    "\342\200\250", "\342\200\251", "\342\200\257", "\342\201\237", "\343\200\200",
};

}  // namespace gemcut
