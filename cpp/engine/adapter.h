// A low-rank adapter beside the packed weights: W x + scale * B (A x), the second part in float32.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/input_rows.h"
#include "kernels/packed.h"

namespace gemcut {

// What is added to one matrix (out, in).
struct LowRankUpdate {
  std::string name;
  PackedMatrix a, b;  // float32 (r, in) and (out, r), the scale in B
  int64_t place = 0;  // where A x begins in a row of such products of one stage; a multiple of group_rows
  AlignedArray<float> memory;
};

// Null where a matrix has no update.
struct LayerUpdates {
  const LowRankUpdate *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  const LowRankUpdate *gate = nullptr, *up = nullptr, *down = nullptr;
};

class Adapter {
 public:
  // Takes the factors into memory of its own. Throws checkpoint for a matrix that the layers do not have or a shape
  // that does not fit, usage for a matrix that is given twice.
  Adapter(const Config& config, const std::vector<AdapterMatrix>& matrices);
  // What that memory will be.
  static int64_t bytes_of(const std::vector<AdapterMatrix>& matrices);

  bool empty() const { return updates_.empty(); }
  const LayerUpdates& layer(size_t index) const { return layers_[index]; }
  int64_t width() const { return width_; }  // of a row of A x for all matrices with the same input
  int64_t num_bytes() const;
  int64_t multiply_adds() const;  // for one token
  // Tells apart models that differ in their adapter only; `model_hash` itself without one.
  std::string hash(const std::string& model_hash) const;

 private:
  std::vector<LowRankUpdate> updates_;
  std::vector<LayerUpdates> layers_;
  int64_t width_ = 0;
};

}  // namespace gemcut
