"""A SentencePiece model as the fields Gemcut needs, read from and written to its protobuf wire format.

Source: sentencepiece 0.2, src/sentencepiece_model.proto (field numbers and defaults).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping

import numpy as np

from gemcut.errors import TokenizerError

# SentencePiece.Type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_BPE = 2  # TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # ModelProto fields
_TYPE_FIELDS = frozenset(bytes([0x18, kind]) for kind in range(NORMAL, BYTE + 1))


@dataclasses.dataclass(frozen=True)
class SentencePieceModel:
    """The vocabulary and the normaliser of one SentencePiece model.

    Attributes:
        pieces: V texts by token id, spaces as U+2581.
        scores: float32 (V,), higher merges first.
        types: uint8 (V,), one of NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE.
        add_dummy_prefix: A space is put before every text.
        remove_extra_whitespaces: Leading, trailing and doubled spaces are dropped.
        trainer_spec: Serialised TrainerSpec (kind of model, byte fallback, ids of the reserved pieces).
        normalizer_spec: Serialised NormalizerSpec.
        other_fields: Serialised remaining fields, kept as they came.
    """

    pieces: list[str]
    scores: np.ndarray
    types: np.ndarray
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    trainer_spec: bytes
    normalizer_spec: bytes
    other_fields: bytes = b""


def read_model(data: bytes, where: str) -> SentencePieceModel:
    """The model in the bytes of a `tokenizer.model`.

    Args:
        data: A serialised ModelProto.
        where: File name for messages.

    Raises:
        TokenizerError: the bytes are cut short, or are not a SentencePiece model.
    """
    pieces: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    specs = {_TRAINER: b"", _NORMALIZER: b""}
    others: list[bytes] = []
    try:
        for number, start, end, field_start in _fields(data):
            if number == _PIECES:
                piece, score, kind = _read_piece(data[start:end])
                pieces.append(piece)
                scores.append(score)
                types.append(kind)
            elif number in specs:
                specs[number] += data[start:end]
            else:
                others.append(data[field_start:end])
        flags = _numbers(specs[_NORMALIZER])
    except (ValueError, IndexError, struct.error) as error:
        raise TokenizerError(
            f"{where}: {len(data)} bytes that are not a whole SentencePiece model ({error}). "
            "Expected a tokenizer.model file; fetch it again."
        ) from error
    if not pieces:
        raise TokenizerError(f"{where}: holds no pieces, expected a SentencePiece model. Fetch the file again.")
    return SentencePieceModel(
        pieces=pieces,
        scores=np.array(scores, np.float32),
        types=np.array(types, np.uint8),
        add_dummy_prefix=bool(flags.get(3, 1)),
        remove_extra_whitespaces=bool(flags.get(4, 1)),
        trainer_spec=specs[_TRAINER],
        normalizer_spec=specs[_NORMALIZER],
        other_fields=b"".join(others),
    )


def write_model(model: SentencePieceModel) -> bytes:
    """The bytes of `model` as a ModelProto, which the sentencepiece library loads."""
    scores = np.ascontiguousarray(model.scores, "<f4").tobytes()
    parts = []
    offset = 0
    for piece, kind in zip(model.pieces, model.types.tolist(), strict=True):
        text = piece.encode("utf-8")
        score = scores[offset : offset + 4]
        offset += 4
        size = len(text)
        if size < 119:  # the message, 9 bytes longer, still has a one-byte length
            parts.append(b"\n%c\n%c%b\x15%b\x18%c" % (size + 9, size, text, score, kind))
        else:
            parts.append(_bytes_field(_PIECES, _bytes_field(1, text) + b"\x15%b\x18%c" % (score, kind)))
    parts += [_bytes_field(_TRAINER, model.trainer_spec), _bytes_field(_NORMALIZER, model.normalizer_spec)]
    return b"".join(parts) + model.other_fields


def bpe_trainer_spec(*, byte_fallback: bool, unknown_token_id: int) -> bytes:
    """A serialised TrainerSpec of a byte-pair model; ids of the other reserved pieces are Gemcut's own business."""
    numbers = {3: _BPE, 35: int(byte_fallback), 40: unknown_token_id}
    return b"".join(_number_field(number, value) for number, value in numbers.items())


def identity_normalizer_spec(*, add_dummy_prefix: bool) -> bytes:
    """A serialised NormalizerSpec that changes nothing but spaces into U+2581."""
    numbers = {3: int(add_dummy_prefix), 4: 0, 5: 1}
    return _bytes_field(1, b"identity") + b"".join(_number_field(*pair) for pair in numbers.items())


def with_dummy_prefix(model: SentencePieceModel, add_dummy_prefix: bool) -> SentencePieceModel:
    """`model` with the space before every text switched on or off."""
    # In protobuf the last value of a field wins, so the switch is appended.
    spec = model.normalizer_spec + _number_field(3, int(add_dummy_prefix))
    return dataclasses.replace(model, add_dummy_prefix=add_dummy_prefix, normalizer_spec=spec)


def with_reserved_pieces(trainer_spec: bytes, reserved: Mapping[str, tuple[int, str]]) -> bytes:
    """`trainer_spec` with the ids and pieces of "bos", "eos" and "pad"; in protobuf the last value of a field wins."""
    numbers = {"bos": (41, 46), "eos": (42, 47), "pad": (43, 48)}
    for name, (token_id, piece) in reserved.items():
        id_field, piece_field = numbers[name]
        trainer_spec += _number_field(id_field, token_id) + _bytes_field(piece_field, piece.encode("utf-8"))
    return trainer_spec


def resized(model: SentencePieceModel, num_pieces: int) -> SentencePieceModel:
    """`model` with its first `num_pieces` pieces only."""
    return dataclasses.replace(
        model, pieces=model.pieces[:num_pieces], scores=model.scores[:num_pieces], types=model.types[:num_pieces]
    )


def reserved_ids(model: SentencePieceModel) -> dict[str, int]:
    """Ids of "unk", "bos", "eos" and "pad" as the TrainerSpec names them; -1 for none."""
    numbers = _numbers(model.trainer_spec)
    defaults = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    return {name: _signed(numbers.get(number, default)) for name, (number, default) in defaults.items()}


def _read_piece(message: bytes) -> tuple[str, float, int]:
    """Text, score and type of one piece."""
    size = message[1] if len(message) > 1 else 0
    rest = message[2 + size :]
    # The layout every writer produces; anything else takes the general way below.
    if message[:1] == b"\n" and size < 128 and rest[:1] == b"\x15" and (len(rest) == 5 or rest[5:] in _TYPE_FIELDS):
        kind = NORMAL if len(rest) == 5 else rest[6]
        return message[2 : 2 + size].decode("utf-8"), struct.unpack_from("<f", rest, 1)[0], kind
    piece, score, kind = "", 0.0, NORMAL
    for number, start, end, _ in _fields(message):
        if number == 1:
            piece = message[start:end].decode("utf-8")
        elif number == 2:
            score = struct.unpack("<f", message[start:end])[0]
        elif number == 3:
            kind = _varint(message, start)[0]
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"piece {piece!r} has type {kind}")
    return piece, score, kind


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start and end of the value, start of the field) of each field of a message."""
    position = 0
    while position < len(data):
        field_start = position
        tag, position = _varint(data, position)
        wire_type = tag & 7
        if wire_type == _BYTES:
            size, start = _varint(data, position)
        elif wire_type == _VARINT:
            size, start = _varint(data, position)[1] - position, position
        elif wire_type in (_FIXED32, _FIXED64):
            size, start = (4 if wire_type == _FIXED32 else 8), position
        else:
            raise ValueError(f"byte {field_start} starts no known field")
        position = start + size
        if position > len(data):
            raise ValueError(f"the field at byte {field_start} ends at {position}")
        yield tag >> 3, start, position, field_start


def _numbers(message: bytes) -> dict[int, int]:
    """The whole-number fields of a message."""
    return {
        number: _varint(message, start)[0]
        for number, start, _, field_start in _fields(message)
        if message[field_start] & 7 == _VARINT
    }


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it."""
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"the number before byte {position} does not end")


def _signed(value: int) -> int:
    """A protobuf int32 out of its unsigned 64-bit form."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _number_field(number: int, value: int) -> bytes:
    return _encode_varint(number << 3 | _VARINT) + _encode_varint(value & ((1 << 64) - 1))


def _bytes_field(number: int, value: bytes) -> bytes:
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
