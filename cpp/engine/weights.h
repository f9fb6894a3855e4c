// All weights of a model in the kernels' layout, in one region of memory: made from a checkpoint, or mapped from a
// kept layout file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/thread_pool.h"
#include "formats/checkpoint.h"
#include "kernels/packed.h"

namespace gemcut {

struct LayerWeights {
  PackedMatrix q, k, v, o;      // (N H, D), (K H, D), (K H, D), (D, N H)
  PackedMatrix gate, up, down;  // (F, D), (F, D), (D, F)
  // Gains as they are multiplied, 1 + w where the family has it; null where a layer has no such norm.
  const float* input_norm = nullptr;           // (D,)
  const float* post_attention_norm = nullptr;  // (D,) on the attention's output
  const float* pre_feedforward_norm = nullptr; // (D,)
  const float* post_feedforward_norm = nullptr;
  const float* q_norm = nullptr;               // (H,)
  const float* k_norm = nullptr;
};

// Where one tensor lies in the region.
struct WeightPlace {
  std::string name;  // canonical
  bool is_matrix = false;
  Format format = Format::f32;
  int64_t rows = 0, columns = 0;
  int64_t offset = 0, bytes = 0;  // in the region; offsets are multiples of 64
};

// Places of every tensor, in the order of the canonical names' use: what a layout file must agree with.
std::vector<WeightPlace> plan_weights(const Checkpoint& checkpoint);
int64_t region_bytes(const std::vector<WeightPlace>& places);

// Fills a region of region_bytes(places) from the checkpoint. Throws checkpoint if a file changes meanwhile.
void pack_weights(const Checkpoint& checkpoint, const std::vector<WeightPlace>& places, ThreadPool& pool,
                  std::byte* region);

struct Weights {
  PackedMatrix embedding, head;  // (V, D); the same one if tied
  std::vector<LayerWeights> layers;
  const float* final_norm = nullptr;
  int64_t bytes = 0;             // of the region
  std::shared_ptr<const std::byte> region;

  // Every matrix that is read to decode a token, the head included.
  std::vector<const PackedMatrix*> read_per_token() const;
};

Weights bind_weights(const Config& config, const std::vector<WeightPlace>& places,
                     std::shared_ptr<const std::byte> region);

// A zeroed region in memory, 64-byte aligned; in large pages where asked for and the system has them, else memory that
// is never touched costs nothing. Throws out_of_memory.
std::shared_ptr<std::byte> allocate_region(int64_t bytes, bool large_pages = true);

}  // namespace gemcut
