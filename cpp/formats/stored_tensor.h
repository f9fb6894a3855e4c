// A tensor as it lies in a file: the common result of every reader. Python: gemcut.checkpoint.stored.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/tensor.h"

namespace gemcut {

struct StoredTensor {
  std::string name;                // as the file has it
  std::vector<int64_t> shape;      // outermost first; matrices are (out, in) in every format
  std::string type_name;           // ggml's name of the type, or the format's own
  std::optional<TensorType> type;  // nothing: not computed with
  size_t file = 0;                 // which of the files, in the order they were opened
  uint64_t offset = 0;             // in that file, bytes
  uint64_t num_bytes = 0;          // 0 where the type, and with it the size, is unknown
};

// Files of one model with all their tensors, in the order of the files.
struct StoredModel {
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<uint64_t> header_bytes;  // of each file: what comes before its data
  std::vector<StoredTensor> tensors;
};

// Throws ErrorKind::checkpoint where two tensors have the same name.
void refuse_duplicates(const StoredModel& model);

// "(262144, 640)", as shapes are written in messages.
std::string shape_text(const std::vector<int64_t>& shape);

// The type of that name; nothing where it is not computed with.
std::optional<TensorType> type_named(const std::string& name);
// All names of types that are computed with, in alphabetical order, with ", " between.
std::string readable_types();

}  // namespace gemcut
