// Filling the blocks of a header, and its error messages.
#include "formats/gguf_header.h"

#include <algorithm>

#include "formats/json.h"
#include "formats/message.h"

namespace gemcut {

namespace {
constexpr uint64_t kFirstBlockBytes = 64 << 10, kLargestBlockBytes = 4 << 20;
// The largest known, of a vocabulary of 262,144, takes 9 MB; a damaged file must not fill the memory.
constexpr uint64_t kMaxHeaderBytes = 512 << 20;
}  // namespace

void GgufHeader::refuse(const std::string& what) const {
  throw Error(ErrorKind::checkpoint, message("[formats.gguf] ", where_, ": ", what));
}

void GgufHeader::refill(uint64_t num_bytes) {
  if (num_bytes > kMaxHeaderBytes - std::min(position_, kMaxHeaderBytes))
    refuse(message("has a header of more than ", kMaxHeaderBytes, " bytes, expected at most that. It is damaged."));
  block_bytes_ = std::clamp(block_bytes_ * 2, kFirstBlockBytes, kLargestBlockBytes);
  const uint64_t wanted = std::min(std::max(num_bytes, block_bytes_), file_.size() - position_);
  blocks_.push_back(std::make_unique_for_overwrite<char[]>(wanted));
  next_ = blocks_.back().get();
  end_ = next_ + wanted;
  file_.read_at(position_, wanted, blocks_.back().get());
}

bool GgufHeader::is_valid(std::string_view text) { return is_utf8(text); }

void GgufHeader::refuse_short(const std::string& what, uint64_t num_bytes) const {
  refuse(message(what, " at byte ", position_, " needs ", num_bytes, " bytes, the file has ", file_.size() - position_,
                 " more. The file is cut short or damaged. Get it again."));
}

void GgufHeader::refuse_long(const std::string& what, uint64_t num_bytes, uint64_t max_bytes) const {
  refuse(message(what, " is ", num_bytes, " bytes long, expected at most ", max_bytes, ". It is damaged."));
}

void GgufHeader::refuse_bytes(const std::string& what, uint64_t begin) const {
  refuse(message(what, " at byte ", begin, " is not UTF-8. The file is damaged. Get it again."));
}

}  // namespace gemcut
