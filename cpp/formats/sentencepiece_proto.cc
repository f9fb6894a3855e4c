// Reading of protobuf's wire format: every length is checked against what is there.
#include "formats/sentencepiece_proto.h"

#include <bit>
#include <cstring>
#include <string>

#include "formats/error.h"
#include "formats/message.h"

namespace gemcut {
namespace {

enum class WireType : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// What is wrong with the bytes; read_sentencepiece_model() says where.
struct Damage {
  std::string reason;
};

// One field of a message; `value` is its bytes, for a varint the number itself.
struct Field {
  uint64_t number = 0;
  WireType type = WireType::varint;
  std::string_view value;
  uint64_t integer = 0;
};

// Goes through the fields of a message.
class MessageReader {
 public:
  // `offset`: where `message` begins in the file, for reasons.
  MessageReader(std::string_view message, size_t offset) : message_(message), offset_(offset) {}

  bool next(Field& field) {
    if (position_ == message_.size()) return false;
    const size_t start = position_;
    const uint64_t tag = varint();
    field.number = tag >> 3;
    field.type = static_cast<WireType>(tag & 7);
    uint64_t size = 0;
    switch (field.type) {
      case WireType::varint: field.integer = varint(); return true;
      case WireType::bytes: size = varint(); break;
      case WireType::fixed32: size = 4; break;
      case WireType::fixed64: size = 8; break;
      default: throw Damage{message("byte ", offset_ + start, " starts no known field")};
    }
    if (size > message_.size() - position_)
      throw Damage{message("the field at byte ", offset_ + start, " has ", size, " bytes, ",
                           message_.size() - position_, " are left")};
    field.value = message_.substr(position_, size);
    position_ += size;
    return true;
  }
  // Where the value of the last field of bytes begins in the file.
  size_t value_offset(const Field& field) const {
    return offset_ + static_cast<size_t>(field.value.data() - message_.data());
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (position_ == message_.size())
        throw Damage{message("it ends within the number at byte ", offset_ + position_)};
      const auto byte = static_cast<unsigned char>(message_[position_++]);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw Damage{message("the number before byte ", offset_ + position_, " does not end")};
  }

  std::string_view message_;
  size_t offset_;
  size_t position_ = 0;
};

// A number's field: protobuf allows any wire type, but every writer uses these.
bool is_number(const Field& field, uint64_t number) {
  return field.number == number && field.type == WireType::varint;
}

void read_piece(std::string_view bytes, size_t offset, SentencePieceModel& model) {
  MessageReader reader(bytes, offset);
  Field field;
  std::string_view piece;
  float score = 0;
  uint64_t type = 1;
  while (reader.next(field)) {
    if (field.number == 1 && field.type == WireType::bytes) {
      piece = field.value;
    } else if (field.number == 2 && field.type == WireType::fixed32) {
      uint32_t bits = 0;
      for (size_t i = 4; i-- > 0;) bits = bits << 8 | static_cast<unsigned char>(field.value[i]);
      score = std::bit_cast<float>(bits);
    } else if (is_number(field, 3)) {
      type = field.integer;
    }
  }
  if (type < 1 || type > 6) throw Damage{message("piece ", quoted(piece), " has type ", type)};
  model.pieces.push_back(piece);
  model.scores.push_back(score);
  model.types.push_back(static_cast<uint8_t>(type));
}

void read_trainer(std::string_view bytes, size_t offset, SentencePieceModel& model) {
  MessageReader reader(bytes, offset);
  Field field;
  while (reader.next(field)) {
    if (field.type != WireType::varint) continue;
    // A negative int32 is written as 64 bits.
    const int64_t value = static_cast<int64_t>(field.integer);
    switch (field.number) {
      case 3: model.model_type = value; break;
      case 24: model.treat_whitespace_as_suffix = value != 0; break;
      case 35: model.byte_fallback = value != 0; break;
      case 40: model.unknown_token_id = value; break;
      case 41: model.bos_token_id = value; break;
      case 42: model.eos_token_id = value; break;
      case 43: model.pad_token_id = value; break;
      default: break;
    }
  }
}

void read_normalizer(std::string_view bytes, size_t offset, SentencePieceModel& model) {
  MessageReader reader(bytes, offset);
  Field field;
  while (reader.next(field)) {
    if (field.number == 2 && field.type == WireType::bytes) model.has_character_map = !field.value.empty();
    if (is_number(field, 3)) model.add_dummy_prefix = field.integer != 0;
    if (is_number(field, 4)) model.remove_extra_whitespaces = field.integer != 0;
    if (is_number(field, 5)) model.escape_whitespaces = field.integer != 0;
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view data, const std::string& where) {
  SentencePieceModel model;
  try {
    MessageReader reader(data, 0);
    Field field;
    while (reader.next(field)) {
      if (field.type != WireType::bytes) continue;
      const size_t offset = reader.value_offset(field);
      if (field.number == 1) read_piece(field.value, offset, model);
      if (field.number == 2) read_trainer(field.value, offset, model);
      if (field.number == 3) read_normalizer(field.value, offset, model);
    }
  } catch (const Damage& damage) {
    throw Error(ErrorKind::tokenizer,
                message("[formats.sentencepiece_proto] ", where, ": ", data.size(),
                        " bytes that are not a whole SentencePiece model (", damage.reason,
                        "). Expected a tokenizer.model file; fetch it again."));
  }
  if (model.pieces.empty())
    throw Error(ErrorKind::tokenizer,
                message("[formats.sentencepiece_proto] ", where,
                        ": holds no pieces, expected a SentencePiece model. Fetch the file again."));
  return model;
}

}  // namespace gemcut
