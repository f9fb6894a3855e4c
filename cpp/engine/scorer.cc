#include "engine/scorer.h"

#include <algorithm>
#include <string>

#include "engine/sequence.h"
#include "formats/error.h"

namespace gemcut {
namespace {

constexpr int64_t group_tokens = 2048;           // computed for one group, so that passes are full and little is held
constexpr int64_t group_bytes = int64_t{256} << 20;  // of keys and values of one group
constexpr int64_t min_trunk_tokens = 64;         // that are worth keeping for the next group
constexpr int64_t large_trunk_tokens = 256;      // that are worth ending a group for
constexpr int64_t min_node_tokens = 8;           // that are worth a node of their own

using Tokens = std::span<const int32_t>;

int64_t common(Tokens a, Tokens b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return end.first - a.begin();
}

// The tokens that are computed; the last one is only predicted.
Tokens computed(const ScoredText& text) { return text.token_ids.first(text.token_ids.size() - 1); }

// What may lie in a trunk: not the token that the first scored one follows, whose row is needed.
Tokens shareable(const ScoredText& text) {
  return text.token_ids.first(text.token_ids.size() - static_cast<size_t>(text.num_scored) - 1);
}

// Tokens [begin, end) of a text, which all texts below begin with as they begin with those of the nodes above.
struct Node {
  Tokens text;
  int64_t begin = 0, end = 0;
  Node* parent = nullptr;
  std::vector<std::unique_ptr<Node>> children = {};
  std::unique_ptr<Sequence> sequence = nullptr;
  size_t work = 0;  // in the pass of its depth
};

class Tree {
 public:
  explicit Tree(int64_t begin) { root_.begin = root_.end = begin; }

  // The node in which the text ends. Splitting keeps every such node: the lower part stays what it was.
  Node* add(Tokens text) {
    Node* node = &root_;
    const auto length = static_cast<int64_t>(text.size());
    while (node->end < length) {
      Node* next = nullptr;
      for (const auto& child : node->children) {
        const int64_t size = child->end - child->begin;
        const int64_t same = common(text.subspan(static_cast<size_t>(child->begin)), of(*child));
        if (child->begin + same == length) return child.get();
        if (same == size || same >= min_node_tokens) {
          next = same == size ? child.get() : split(*child, child->begin + same);
          break;
        }
      }
      if (!next) {
        node->children.push_back(std::make_unique<Node>(Node{text, node->end, length, node}));
        next = node->children.back().get();
      }
      node = next;
    }
    return node;
  }

  std::vector<Node*> level(size_t depth) {
    std::vector<Node*> nodes = {&root_};
    for (; depth; --depth) {
      std::vector<Node*> below;
      for (Node* node : nodes)
        for (const auto& child : node->children) below.push_back(child.get());
      nodes = std::move(below);
    }
    return nodes;
  }

 private:
  static Tokens of(const Node& node) {
    return node.text.subspan(static_cast<size_t>(node.begin), static_cast<size_t>(node.end - node.begin));
  }

  // The part of `node` before `place`, now its parent.
  static Node* split(Node& node, int64_t place) {
    std::unique_ptr<Node>& slot = *std::find_if(node.parent->children.begin(), node.parent->children.end(),
                                                [&](const auto& child) { return child.get() == &node; });
    auto upper = std::make_unique<Node>(Node{node.text, node.begin, place, node.parent});
    upper->children.push_back(std::move(slot));
    node.begin = place;
    node.parent = upper.get();
    slot = std::move(upper);
    return slot.get();
  }

  Node root_;
};

// A token of a text and where what follows it is to be found.
struct Wanted {
  WantedToken target;
  size_t text = 0;
  int64_t index = 0;
};

// The wanted rows of the nodes of one depth, in the order that Engine::score asks for.
std::vector<Wanted> wanted_of(std::span<const ScoredText> texts, const std::vector<Node*>& ends, const std::vector<Node*>& level) {
  std::vector<Wanted> wanted;
  for (size_t i = 0; i < ends.size(); ++i)
    for (const Node* node = ends[i]; node; node = node->parent) {
      if (node->work >= level.size() || level[node->work] != node) continue;
      const auto length = static_cast<int64_t>(texts[i].token_ids.size());
      const int64_t first = length - texts[i].num_scored;
      for (int64_t t = std::max(first, node->begin + 1); t <= std::min(node->end, length - 1); ++t)
        wanted.push_back({{node->work, static_cast<size_t>(t - 1 - node->begin), texts[i].token_ids[static_cast<size_t>(t)]}, i, t - first});
    }
  std::sort(wanted.begin(), wanted.end(), [](const Wanted& a, const Wanted& b) {
    return std::pair(a.target.work, a.target.token) < std::pair(b.target.work, b.target.token);
  });
  return wanted;
}

void check(const ScoredText& text) {
  const auto length = static_cast<int64_t>(text.token_ids.size());
  if (text.num_scored < 1 || text.num_scored >= length)
    throw Error(ErrorKind::usage, "[engine.scorer] " + std::to_string(text.num_scored) + " tokens of a text of " +
                                      std::to_string(length) + " are to be scored, expected at least 1 and one before it.");
}

struct Group {
  size_t count = 0;
  int64_t shared = 0;  // tokens that all of it begin with and that may lie in a trunk
};

Group first_group(std::span<const ScoredText> texts, int64_t token_bytes) {
  Group group;
  int64_t tokens = 0, own_tokens = 0;
  for (const ScoredText& text : texts) {
    check(text);
    const Tokens own = computed(text);
    const auto length = static_cast<int64_t>(own.size());
    if (group.count == 0) {
      group = {1, static_cast<int64_t>(shareable(text).size())};
      tokens = own_tokens = 0;
      continue;
    }
    const int64_t shared = std::min(common(shareable(text), texts.front().token_ids), group.shared);
    tokens += length - common(own, computed((&text)[-1]));
    own_tokens += length - shared;
    const bool leaves = group.shared >= large_trunk_tokens && shared < group.shared / 2;
    if (leaves || tokens > group_tokens || own_tokens * token_bytes > group_bytes) break;
    group = {group.count + 1, shared};
  }
  return group;
}

}  // namespace

int64_t Scorer::grow_trunk(const ScoredText& first, int64_t shared) {
  const Tokens wanted = first.token_ids.first(static_cast<size_t>(shared));
  const int64_t known = trunk_ ? common(wanted, trunk_->token_ids()) : 0;
  if (shared - known < min_trunk_tokens) return known < min_trunk_tokens ? 0 : known;
  if (!trunk_ || trunk_->capacity() < shared || known < min_trunk_tokens) {
    std::unique_ptr<Sequence> grown = engine_.new_trunk(shared);
    trunk_ = std::move(grown);
  } else {
    engine_.truncate(*trunk_, known);
  }
  const Work work{trunk_.get(), wanted.subspan(static_cast<size_t>(trunk_->length()))};
  engine_.forward({&work, 1}, {.rows = Rows::none, .want_logits = false});
  return shared;
}

size_t Scorer::score_group(std::span<const ScoredText> texts, std::span<TextScore> scores) {
  const Group group = first_group(texts, engine_.sequence_bytes(1) / attention_block);
  texts = texts.first(group.count);
  const int64_t begin = grow_trunk(texts.front(), group.shared);
  Tree tree(begin);
  std::vector<Node*> ends;
  for (size_t i = 0; i < group.count; ++i) {
    scores[i].logprobs.resize(static_cast<size_t>(texts[i].num_scored));
    scores[i].is_greedy = true;
    ends.push_back(tree.add(computed(texts[i])));
  }
  std::vector<Node*> level = tree.level(0);
  for (size_t depth = 1; !level.empty(); ++depth) {
    for (Node* node : level)
      if (node->children.empty()) node->sequence.reset();
    level = tree.level(depth);
    std::vector<Work> work;
    for (size_t i = 0; i < level.size(); ++i) {
      Node& node = *level[i];
      Sequence* const from = node.parent->sequence ? node.parent->sequence.get() : begin ? trunk_.get() : nullptr;
      node.sequence = from ? engine_.branch(*from, node.begin, node.end) : engine_.new_trunk(node.end);
      node.work = i;
      work.push_back({node.sequence.get(), node.text.subspan(static_cast<size_t>(node.begin), static_cast<size_t>(node.end - node.begin))});
    }
    const std::vector<Wanted> wanted = wanted_of(texts, ends, level);
    std::vector<WantedToken> targets;
    for (const Wanted& each : wanted) targets.push_back(each.target);
    const std::vector<TokenScore> found = engine_.score(work, targets);
    for (size_t i = 0; i < found.size(); ++i) {
      TextScore& score = scores[wanted[i].text];
      score.logprobs[static_cast<size_t>(wanted[i].index)] = found[i].logprob;
      score.is_greedy = score.is_greedy && found[i].is_best;
    }
  }
  return group.count;
}

}  // namespace gemcut
