// The merging of characters into pieces. A heap of candidates makes it n log n for any text.
#include "formats/tokenizer_bpe.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "formats/message.h"
#include "formats/tokenizer_utf8.h"

namespace gemcut {
namespace {

// Unsigned numbers in the order of the floats; -0 counts as 0.
uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

int32_t byte_of(std::string_view piece) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'A' + 10; };
  return 16 * digit(piece[3]) + digit(piece[4]);
}

bool has_inner_space(std::string_view piece) {
  for (size_t at = piece.find(kSpaceSymbol, 1); at != std::string_view::npos; at = piece.find(kSpaceSymbol, at + 1))
    if (!piece.substr(0, at).ends_with(kSpaceSymbol)) return true;
  return false;
}

}  // namespace

// A stretch of normalised text whose pieces do not depend on what is around it. Reused, to keep its memory.
class Segment {
 public:
  Segment(const BytePairEncoder& encoder, std::string_view text) : encoder_(encoder), text_(text) {}

  bool is_empty() const { return symbols_.empty(); }
  // Appends a character, or with an id a user-defined piece that merges with nothing.
  void append(size_t begin, size_t num_bytes, int32_t frozen_id = -1) {
    const auto i = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({begin, static_cast<uint32_t>(num_bytes), frozen_id, i - 1, i + 1, frozen_id >= 0});
  }
  // Merges, appends the ids, and is empty again.
  void flush(std::vector<int32_t>& token_ids) {
    if (symbols_.empty()) return;
    symbols_.back().next = -1;
    merge();
    for (int32_t i = 0; i >= 0; i = at(i).next) emit(at(i), token_ids);
    symbols_.clear();
    halves_.clear();
  }

 private:
  struct Symbol {
    size_t begin;
    uint32_t num_bytes;  // 0: merged into the one before
    int32_t token_id;    // -1: not looked up yet
    int32_t prev, next;  // -1: none
    bool is_frozen;
  };
  // Two neighbours whose texts together are a piece.
  struct Candidate {
    uint64_t order;  // rank, then leftmost; the largest merges first
    int32_t left, right, token_id;
    uint32_t num_bytes;
    bool operator<(const Candidate& other) const { return order < other.order; }
  };

  Symbol& at(int32_t i) { return symbols_[static_cast<size_t>(i)]; }
  std::string_view text_of(const Symbol& symbol) const { return text_.substr(symbol.begin, symbol.num_bytes); }

  void consider(int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const Symbol &a = at(left), &b = at(right);
    const size_t num_bytes = size_t{a.num_bytes} + b.num_bytes;
    if (a.is_frozen || b.is_frozen || num_bytes > encoder_.longest_piece_) return;
    const int32_t token_id = encoder_.text_pieces_.find(text_.substr(a.begin, num_bytes));
    if (token_id < 0) return;
    const uint64_t rank = encoder_.ranks_[static_cast<size_t>(token_id)];
    const uint64_t order = rank << 32 | ~static_cast<uint32_t>(left);
    heap_.push_back({order, left, right, token_id, static_cast<uint32_t>(num_bytes)});
    std::push_heap(heap_.begin(), heap_.end());
    if (encoder_.vocabulary_.type(token_id) == PieceType::unused) halves_[token_id] = a.num_bytes;
  }

  void merge() {
    for (size_t i = 1; i < symbols_.size(); ++i) consider(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate best = heap_.back();
      heap_.pop_back();
      Symbol &left = at(best.left), &right = at(best.right);
      // One of the two has merged with another since.
      if (!left.num_bytes || !right.num_bytes || size_t{left.num_bytes} + right.num_bytes != best.num_bytes) continue;
      left.num_bytes = best.num_bytes;
      left.token_id = best.token_id;
      left.next = right.next;
      if (right.next >= 0) at(right.next).prev = best.left;
      right.num_bytes = 0;
      consider(left.prev, best.left);
      consider(best.left, left.next);
    }
  }

  void emit(const Symbol& symbol, std::vector<int32_t>& token_ids) {
    const std::string_view text = text_of(symbol);
    const int32_t token_id = symbol.token_id >= 0 ? symbol.token_id : encoder_.text_pieces_.find(text);
    if (token_id >= 0) return emit_piece(text, token_id, token_ids);
    const Vocabulary& vocabulary = encoder_.vocabulary_;
    if (vocabulary.byte_fallback) {
      for (const char c : text) token_ids.push_back(encoder_.byte_ids_[static_cast<unsigned char>(c)]);
    } else if (!was_unknown_) {  // a run of unknown characters is one unknown token
      token_ids.push_back(vocabulary.unknown_token_id);
    }
    was_unknown_ = true;
  }

  // A piece that is only a step of merging falls apart into what it was last made of.
  void emit_piece(std::string_view text, int32_t token_id, std::vector<int32_t>& token_ids) {
    const auto half = halves_.find(token_id);
    if (encoder_.vocabulary_.type(token_id) != PieceType::unused || half == halves_.end()) {
      token_ids.push_back(token_id);
      was_unknown_ = false;
      return;
    }
    for (const std::string_view part : {text.substr(0, half->second), text.substr(half->second)})
      emit({static_cast<size_t>(part.data() - text_.data()), static_cast<uint32_t>(part.size()), -1, -1, -1, false},
           token_ids);
  }

  const BytePairEncoder& encoder_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  std::unordered_map<int32_t, uint32_t> halves_;  // unused piece: bytes of the left of the two it was last made of
  bool was_unknown_ = false;
};

BytePairEncoder::BytePairEncoder(const Vocabulary& vocabulary, const std::string& where)
    : vocabulary_(vocabulary), text_pieces_(vocabulary.pieces), reserved_(vocabulary.pieces) {
  std::vector<int32_t> text_ids, reserved_ids;
  text_ids.reserve(vocabulary.types.size());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.types.size()); ++id) {
    const PieceType type = vocabulary.type(id);
    const bool is_text = type == PieceType::normal || type == PieceType::user_defined || type == PieceType::unused;
    (is_text ? text_ids : reserved_ids).push_back(id);
    if (type == PieceType::byte) byte_ids_[static_cast<size_t>(byte_of(vocabulary.piece(id)))] = id;
    if (type == PieceType::user_defined) user_defined_.add(vocabulary.piece(id), id);
    if (type == PieceType::unused) has_unused_ = true;
  }
  for (const auto& [table, ids] : {std::pair(&text_pieces_, &text_ids), std::pair(&reserved_, &reserved_ids)}) {
    const PieceTable::Clash clash = table->fill(*ids);
    if (clash.token_id >= 0)
      throw Error(ErrorKind::tokenizer,
                  message("[formats.tokenizer_bpe] ", where, ": ids ", clash.same, " and ", clash.token_id,
                          " are both ", quoted(vocabulary.piece(clash.token_id)),
                          ", expected each piece once. Fetch the file again."));
  }
  ranks_.reserve(vocabulary.scores.size());
  for (const float score : vocabulary.scores) ranks_.push_back(rank_of(score));
  for (const int32_t id : text_ids) {
    longest_piece_ = std::max(longest_piece_, vocabulary.piece(id).size());
    // User-defined pieces merge with nothing.
    if (vocabulary.type(id) != PieceType::user_defined && has_inner_space(vocabulary.piece(id)))
      splits_at_spaces_ = false;
  }
}

int32_t BytePairEncoder::find(std::string_view piece) const {
  const int32_t reserved = reserved_.find(piece);
  return reserved >= 0 ? reserved : text_pieces_.find(piece);
}

std::string BytePairEncoder::normalize(std::string_view text, bool add_dummy_prefix) const {
  const bool trims = vocabulary_.remove_extra_whitespaces;
  if (trims) text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::string result;
  if (text.empty()) return result;
  result.reserve(text.size() + text.size() / 4 + 3);
  if (add_dummy_prefix) result += kSpaceSymbol;
  bool after_space = trims;
  while (!text.empty()) {
    const size_t size = utf8_character_bytes(text);
    const bool is_space = text[0] == ' ';
    if (!(is_space && after_space))
      result += is_space ? kSpaceSymbol : size ? text.substr(0, size) : kReplacementCharacter;
    after_space = trims && is_space;
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  while (trims && result.ends_with(kSpaceSymbol)) result.resize(result.size() - kSpaceSymbol.size());
  return result;
}

bool BytePairEncoder::may_split_before(std::string_view text, size_t position) const {
  return splits_at_spaces_ && text.substr(position).starts_with(kSpaceSymbol) &&
         !text.substr(0, position).ends_with(kSpaceSymbol);
}

void BytePairEncoder::encode(std::string_view text, bool add_dummy_prefix, std::vector<int32_t>& token_ids) const {
  const std::string normalized = normalize(text, add_dummy_prefix);
  const std::string_view view = normalized;
  Segment segment(*this, view);
  for (size_t position = 0; position < view.size();) {
    const std::string_view rest = view.substr(position);
    const auto match = user_defined_.longest(rest);
    const size_t num_bytes = match.num_bytes ? match.num_bytes : std::max<size_t>(utf8_character_bytes(rest), 1);
    // Which two halves an unused piece was last made of depends on the order of merges in the whole text.
    if (!has_unused_ && (match.num_bytes || may_split_before(view, position))) segment.flush(token_ids);
    segment.append(position, num_bytes, match.token_id);
    if (!has_unused_ && match.num_bytes) segment.flush(token_ids);
    position += num_bytes;
  }
  segment.flush(token_ids);
}

}  // namespace gemcut
