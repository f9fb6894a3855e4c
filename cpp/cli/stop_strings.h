// Stop strings that may begin in one piece of text and end in another. Python: gemcut.generate.stopping.StopStrings.
#pragma once

#include <string>
#include <vector>

namespace gemcut::cli {

// Cuts a growing text before a stop string; holds back what could still become one. The stop string that is complete
// first counts, of several that end at the same place the longest.
class StopStrings {
 public:
  // Throws ErrorKind::usage for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops);
  // Text that is safe to show now that `text` follows; nothing more once has_stopped().
  std::string push(const std::string& text);
  // What was held back, now that no more text follows.
  std::string finish();
  bool has_stopped() const { return has_stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool has_stopped_ = false;
};

}  // namespace gemcut::cli
