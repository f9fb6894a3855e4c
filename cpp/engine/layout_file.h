// Packed weights kept in a file, so that the next start reads them as they are.
//
// A folder holds one file for each model, named by the fingerprint of its bytes and the version of the layout (every
// instruction set reads the same one). Files are written under another name and renamed when they are complete, so
// that two processes, or a kill in the middle, leave no half file behind; what is left over is removed by the next.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/weights.h"

namespace gemcut {

// Raised whenever the order of bytes in a region changes.
inline constexpr uint32_t layout_version = 2;

struct LayoutFolder {
  std::string path;             // empty: nothing is kept
  int64_t max_bytes = 0;        // of all files together
  double max_share = 1;         // that they take of the disk's room: what is free and what they have
};

// $GEMCUT_CACHE, else gemcut inside $XDG_CACHE_HOME or ~/.cache, and in it "layouts"; as gemcut.hub.cache has it.
std::string default_layout_folder();
inline constexpr int64_t default_layout_bytes = int64_t{32} << 30;
inline constexpr double default_layout_share = 0.5;
// Smaller models are packed in less time than a file is worth; only a folder that was asked for gets theirs.
inline constexpr int64_t min_layout_bytes = int64_t{64} << 20;

// The region of the kept file, mapped, not copied; null if there is none, or it is not exactly what is expected.
// Where the file is cut short later, is_mapping_damaged(region) says so after the read.
std::shared_ptr<const std::byte> map_layout(const LayoutFolder& folder, const std::string& fingerprint,
                                            const std::vector<WeightPlace>& places);

// Copies a mapped region into `to` part by part, giving each part's pages back to the system. Asks before each part,
// and returns false if it may not go on.
bool move_region(const std::byte* from, int64_t bytes, std::byte* to, const std::function<bool()>& go_on);

// Keeps the region. The least recently used files go where the limit asks for it. Returns what prevented it, empty if
// nothing did: a disk that is full or not writable costs time at the next start, never the work at hand.
std::string write_layout(const LayoutFolder& folder, const std::string& fingerprint,
                         const std::vector<WeightPlace>& places, const std::byte* region);

}  // namespace gemcut
