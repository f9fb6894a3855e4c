// What a file that is cut short while it is mapped does to who reads the map: zeros and a mark, where the system would
// end the process (SIGBUS).
#pragma once

#include <cstddef>

namespace gemcut {

// Watches `bytes` bytes of a map from `begin` on, which starts a page; false if too many are watched already, or the
// system does not allow it. The first call sets a handler of SIGBUS, which hands on what is not about a watched map.
bool guard_mapping(const void* begin, size_t bytes);
// Ends that; before the map goes.
void unguard_mapping(const void* begin);
// Whether a part of the watched map that holds `address` was read and not there.
bool is_mapping_damaged(const void* address);

}  // namespace gemcut
