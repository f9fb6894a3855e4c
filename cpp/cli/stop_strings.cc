// Looking for stop strings in text that comes in pieces.
#include "cli/stop_strings.h"

#include <algorithm>
#include <utility>

#include "formats/error.h"

namespace gemcut::cli {
namespace {

// Length of the longest end of `text` that is a beginning of `stop`, shorter than `stop`.
size_t overlap(const std::string& text, const std::string& stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
    if (text.compare(text.size() - length, length, stop, 0, length) == 0) return length;
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  if (std::any_of(stops_.begin(), stops_.end(), [](const std::string& stop) { return stop.empty(); }))
    throw Error(ErrorKind::usage, "[cli.stop_strings] --stop is empty, expected at least one character. Give a text.");
}

std::string StopStrings::push(const std::string& text) {
  if (has_stopped_) return "";
  std::string whole = std::exchange(held_, "") + text;
  std::pair<size_t, size_t> first{std::string::npos, 0};  // end and begin
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    const size_t begin = whole.find(stop);
    if (begin != std::string::npos) first = std::min(first, {begin + stop.size(), begin});
    keep = std::max(keep, overlap(whole, stop));
  }
  has_stopped_ = first.first != std::string::npos;
  if (has_stopped_) return whole.substr(0, first.second);
  held_ = whole.substr(whole.size() - keep);
  whole.resize(whole.size() - keep);
  return whole;
}

std::string StopStrings::finish() { return std::exchange(held_, ""); }

}  // namespace gemcut::cli
