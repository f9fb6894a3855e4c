// The vocabulary's raw material out of a checkpoint.
#pragma once

#include <string>

#include "formats/checkpoint.h"
#include "formats/gguf.h"

namespace gemcut {

// What the `tokenizer.` keys of a GGUF file say; the pieces are taken out of `metadata`. Without a SentencePiece
// vocabulary: Kind::none and a note. Equals src/gemcut/text/gguf_vocabulary.py, up to what only the tokenizer checks.
// Throws ErrorKind::tokenizer where an id or a type is none.
VocabularySource vocabulary_from_gguf(GgufMetadata& metadata, const std::string& where);

// What the tokenizer's files in a folder say; `model_bytes` receives tokenizer.model, which the result refers to.
// A folder without tokenizer.model: Kind::none and a note. Equals src/gemcut/text/loading.py.
// Throws ErrorKind::tokenizer where one of the files is damaged.
VocabularySource vocabulary_from_folder(const std::string& folder, std::string& model_bytes);

}  // namespace gemcut
