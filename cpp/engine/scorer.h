// How probable the ends of many texts are: what they share at their beginning is computed once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace gemcut {

// A text, and how many of its last tokens are scored: 1 to one less than all.
struct ScoredText {
  std::span<const int32_t> token_ids;
  int64_t num_scored = 1;
};

struct TextScore {
  std::vector<float> logprobs;  // (num_scored,), natural logarithm
  bool is_greedy = true;        // each of these tokens is the most probable one where it stands
};

// Texts are taken in groups of neighbours, each a tree: the tokens that several share are one node, and all nodes of a
// depth are computed together. What a whole group shares is a trunk, kept for the next group.
class Scorer {
 public:
  explicit Scorer(Engine& engine) : engine_(engine) {}

  // Scores the first group of `texts` into `scores` and returns how many it has; at least 1.
  // Throws usage for a text that cannot be scored, and what Engine::new_trunk and Engine::score throw.
  size_t score_group(std::span<const ScoredText> texts, std::span<TextScore> scores);

 private:
  // Where the group's texts leave the trunk, all tokens before it being theirs; 0 without a trunk.
  int64_t grow_trunk(const ScoredText& first, int64_t shared);

  Engine& engine_;
  std::unique_ptr<Sequence> trunk_;
};

}  // namespace gemcut
