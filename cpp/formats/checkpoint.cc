// Opening a checkpoint of either format. Equals src/gemcut/checkpoint/checkpoint.py, torch files aside.
#include "formats/checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "formats/config_readers.h"
#include "formats/fingerprint.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/message.h"
#include "formats/names.h"
#include "formats/safetensors.h"
#include "formats/vocabulary.h"

namespace gemcut {

namespace {

constexpr uint64_t kMaxConfigBytes = 64 << 20;
constexpr size_t kShownItems = 16;  // of an array in `inspect`

[[noreturn]] void refuse(ErrorKind kind, const std::string& where, const std::string& what) {
  throw Error(kind, message("[formats.checkpoint] ", where, ": ", what));
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find_last_of('/') + 1); }
std::string name_of(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

bool is_folder(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool exists(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0;
}

std::vector<std::string> files_in(const std::string& folder) {
  std::error_code problem;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry(folder, problem), end; !problem && entry != end;
       entry.increment(problem)) {
    const std::string name = entry->path().filename().string();
    std::error_code unreadable;
    // Mistral's folders hold the same weights a second time, as consolidated.*; a mmproj file is a vision projector.
    const bool other = name.starts_with("consolidated") || name.find("mmproj") != name.npos;
    if (!other && entry->is_regular_file(unreadable)) names.push_back(name);
  }
  if (problem)
    refuse(ErrorKind::checkpoint, folder, message("cannot be read (", problem.message(), "). Check its permissions."));
  std::sort(names.begin(), names.end());
  return names;
}

// The file that leads to a folder's weights; safetensors before GGUF.
std::string find_weights(const std::string& folder) {
  const std::vector<std::string> names = files_in(folder);
  for (const char* suffix : {".safetensors.index.json", ".safetensors", ".gguf"}) {
    std::set<std::string> found;
    for (const std::string& name : names) {
      if (!name.ends_with(suffix)) continue;
      const std::vector<std::string> parts = split_files(folder + name);
      found.insert(parts.empty() ? folder + name : parts[0]);
    }
    if (found.size() > 1)
      refuse(ErrorKind::checkpoint, folder,
             message("has ", found.size(), " checkpoints (", name_of(*found.begin()), ", ",
                     name_of(*std::next(found.begin())), "), expected one. Name the file."));
    if (!found.empty()) return *found.begin();
  }
  const bool torch = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(".bin") || name.ends_with(".ckpt") || name.ends_with(".bin.index.json");
  });
  if (torch)
    refuse(ErrorKind::checkpoint, folder,
           "holds torch files, expected safetensors or GGUF. Convert it, or use another engine, which reads them.");
  refuse(ErrorKind::not_found, folder,
         "holds no weights, expected model.safetensors, model.safetensors.index.json or one .gguf file. Download the "
         "model's files into it.");
}

// The index that a shard belongs to, if there is one beside it; else the file itself.
std::string index_of(const std::string& path) {
  // "NAME-00001-of-00003.safetensors": 27 characters after the name.
  constexpr size_t kSuffix = 27;
  const std::string ending = ".safetensors";
  if (name_of(path).size() <= kSuffix || !path.ends_with(ending)) return path;
  const std::string stem = path.substr(0, path.size() - kSuffix), part = path.substr(path.size() - kSuffix, 15);
  const auto is_digits = [](std::string_view text) { return text.find_first_not_of("0123456789") == text.npos; };
  if (part[0] != '-' || !is_digits(part.substr(1, 5)) || part.substr(6, 4) != "-of-" || !is_digits(part.substr(10)))
    return path;
  const std::string index = stem + ending + ".index.json";
  return exists(index) ? index : path;
}

// Whether a file is GGUF, by its first bytes; throws for what is neither that nor safetensors.
bool is_gguf(const std::string& path) {
  if (path.ends_with(".index.json")) return false;
  const MappedFile file(path);
  char start[16] = {};
  file.read_at(0, std::min<size_t>(sizeof start, file.size()), start);
  if (std::memcmp(start, "GGUF", 4) == 0) return true;
  if (std::memcmp(start, "PK\x03\x04", 4) == 0 || std::memcmp(start, "\x80\x02", 2) == 0)
    refuse(ErrorKind::checkpoint, path,
           "is a torch file, expected safetensors or GGUF. Convert it, or use another engine, which reads them.");
  // The name counts for damaged files, so that the message can say what is wrong with them.
  if (start[8] == '{' || path.ends_with(".safetensors")) return false;
  if (path.ends_with(".gguf")) return true;
  refuse(ErrorKind::checkpoint, path,
         message("begins with no mark of a known format (", file.size(), " bytes), expected safetensors or GGUF."));
}

class OpenCheckpoint : public Checkpoint {
 public:
  explicit OpenCheckpoint(std::string path) : path_(std::move(path)) {}

  const std::string& path() const override { return path_; }
  const Config& config() const override { return config_; }
  const std::map<std::string, Tensor>& tensors() const override { return matched_.tensors; }
  const VocabularySource& vocabulary() const override { return vocabulary_; }
  const std::vector<std::pair<std::string, std::string>>& unused_tensors() const override { return matched_.unused; }
  const std::vector<std::pair<std::string, std::string>>& metadata() const override { return metadata_; }
  std::string fingerprint() const override { return fingerprint_of(stored()); }

  void copy(const Tensor& tensor, size_t byte_offset, size_t num_bytes, std::byte* out) const override {
    if (tensor.file >= stored().files.size() || byte_offset > tensor.num_bytes ||
        num_bytes > tensor.num_bytes - byte_offset)
      refuse(ErrorKind::usage, tensor.name, message("bytes ", byte_offset, " to ", byte_offset, " + ", num_bytes,
                                                    " were asked for, expected a part of its ", tensor.num_bytes, "."));
    stored().files[tensor.file]->read_at(tensor.file_offset + byte_offset, num_bytes, out);
  }

  void check_unchanged() const override {
    for (const auto& file : stored().files) file->check_unchanged();
  }

  void release_pages() const override {
    for (const auto& file : stored().files) file->release_pages();
  }

 protected:
  virtual const StoredModel& stored() const = 0;

  std::string path_;
  Config config_;
  MatchedTensors matched_;
  VocabularySource vocabulary_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

class GgufCheckpoint final : public OpenCheckpoint {
 public:
  GgufCheckpoint(const std::string& path, const std::string& file) : OpenCheckpoint(path), model_(read_gguf(file)) {
    const std::string where = name_of(file);
    config_ = config_from_gguf(model_.metadata, model_.stored.tensors, where);
    matched_ = match_tensors(model_.stored, Naming::gguf, config_, where);
    vocabulary_ = vocabulary_from_gguf(model_.metadata, where);
    for (const auto& [key, value] : model_.metadata.entries())
      if (!value.is_array() || value.count <= kShownItems) metadata_.emplace_back(key, value.shown(SIZE_MAX - 1));
  }

 private:
  const StoredModel& stored() const override { return model_.stored; }
  GgufModel model_;
};

class HuggingFaceCheckpoint final : public OpenCheckpoint {
 public:
  HuggingFaceCheckpoint(const std::string& path, const std::string& file)
      : OpenCheckpoint(path), model_(read_safetensors(file)) {
    const std::string folder = folder_of(file), config_path = folder + "config.json";
    if (!exists(config_path))
      refuse(ErrorKind::not_found, config_path,
             message("no such file, expected the configuration of ", name_of(file), ". Get it from there."));
    const std::string text = read_file(config_path, kMaxConfigBytes, ErrorKind::config);
    config_ = config_from_huggingface(Json::parse(text, "config.json", ErrorKind::config), config_path);
    matched_ = match_tensors(model_, Naming::huggingface, config_, name_of(file));
    vocabulary_ = vocabulary_from_folder(folder, tokenizer_model_);
    metadata_.emplace_back("config.json", text);
  }

 private:
  const StoredModel& stored() const override { return model_; }
  StoredModel model_;
  std::string tokenizer_model_;
};

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path) {
  std::string folder = path;
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  const std::string file = is_folder(path) ? find_weights(folder + "/") : index_of(path);
  if (is_gguf(file)) return std::make_unique<GgufCheckpoint>(path, file);
  return std::make_unique<HuggingFaceCheckpoint>(path, file);
}

}  // namespace gemcut
