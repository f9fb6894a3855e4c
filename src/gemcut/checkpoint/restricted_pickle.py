"""Pickle as data: an interpreter of the few opcodes that a file of tensors needs, which can call nothing.

Python's own unpickler imports and calls what a file names. This one knows eight names, all of them inert, and turns
everything else into an error, so a checkpoint can be read without trusting whoever made it.
"""

from __future__ import annotations

import dataclasses
import pickletools
from typing import Any

from gemcut.errors import CheckpointError

# Types that torch's storages name, and the names Gemcut gives them.
STORAGE_TYPES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ALLOWED = {_ORDERED_DICT, _TENSOR, _PARAMETER} | {f"torch.{name}" for name in STORAGE_TYPES}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINSTRING SHORT_BINSTRING".split()
)
_IGNORED = frozenset(["PROTO", "FRAME"])
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global that the pickle mentions; never looked up."""

    name: str


@dataclasses.dataclass(frozen=True)
class PickledTensor:
    """A tensor's place in a storage, in numbers and not in bytes.

    Attributes:
        storage_type: Key of `STORAGE_TYPES`.
        storage_key: Name of the storage inside the archive.
        storage_numbers: How many numbers the storage claims.
        offset: Of the first number.
        shape, strides: As torch has them.
    """

    storage_type: str
    storage_key: str
    storage_numbers: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = Name("mark")


class _Machine:
    """The stack and memo of one pickle."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise IndexError("no mark")

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode other than STOP."""
        stack = self.stack
        if opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "MARK"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": (), "MARK": _MARK}[opcode])
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            stack[-count:] = [self.take_last(count)]
        elif opcode == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif opcode in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            self.fill(opcode)
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            self.name_global(argument)
        elif opcode == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif opcode == "REDUCE":
            arguments = stack.pop()
            stack.append(self.rebuild(stack.pop(), arguments))
        elif opcode == "BUILD":
            stack.pop()  # attributes of an OrderedDict: versions of torch's modules, no weights
        elif opcode not in _IGNORED:
            raise self.refused(f"the pickle operation {opcode}")

    def take_last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("stack too short")
        return tuple(self.stack[-count:])

    def fill(self, opcode: str) -> None:
        """Put items into the dict or list below them."""
        count = {"SETITEM": 2, "APPEND": 1}.get(opcode)
        items = self.since_mark() if count is None else list(self.take_last(count))
        if count is not None:
            del self.stack[-count:]
        target = self.stack[-1]
        if opcode.startswith("APPEND"):
            list.extend(target, items)
        elif all(isinstance(key, (str, int)) for key in items[::2]):
            dict.update(target, zip(items[::2], items[1::2], strict=True))
        else:
            raise ValueError("a key is neither text nor a number")

    def name_global(self, argument: str | None) -> None:
        """Push a name, if it is an inert one."""
        if argument is None:
            module, attribute = self.take_last(2)
            del self.stack[-2:]
            name = f"{module:.80}.{attribute:.80}"
        else:
            name = argument.replace(" ", ".", 1)
        if name not in _ALLOWED:
            raise self.refused(f"the name {name[:160]!r}")
        self.stack.append(Name(name))

    def rebuild(self, function: Any, arguments: Any) -> Any:
        """What a call to one of the inert names stands for."""
        name = function.name if isinstance(function, Name) else None
        if name == _ORDERED_DICT and arguments == ():
            return {}
        if name == _PARAMETER:
            return arguments[0]
        if name == _TENSOR:
            (kind, key, numbers), offset, shape, strides = arguments[:4]
            if not all(isinstance(n, int) and n >= 0 for n in (numbers, offset, *shape, *strides)):
                raise ValueError("a tensor's numbers are not sizes")
            return PickledTensor(kind, key, numbers, offset, tuple(shape), tuple(strides))
        raise self.refused("a call of something other than a tensor")

    def refused(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where}: contains {what}, expected tensors only. Such a file can run code when it is opened; "
            "convert it to safetensors where you trust it."
        )


def _storage(description: Any) -> tuple[str, str, int]:
    """Type, key and size from torch's persistent id ("storage", type, key, device, numbers)."""
    tag, kind, key, _, numbers = description
    type_name = kind.name.removeprefix("torch.") if isinstance(kind, Name) else None
    if tag != "storage" or type_name not in STORAGE_TYPES or not isinstance(key, str):
        raise ValueError("a persistent id is not a storage")
    return type_name, key, numbers


def load_pickle(data: bytes, where: str) -> Any:
    """What a pickle of tensors holds: dicts, lists, numbers, text and `PickledTensor`s.

    Args:
        data: The pickle.
        where: What to call it in messages.

    Raises:
        CheckpointError: it is damaged, or holds anything that is not inert data.
    """
    machine = _Machine(where)
    try:
        for opcode, argument, _ in pickletools.genops(data):  # ends with STOP, or raises
            if opcode.name != "STOP":
                machine.step(opcode.name, argument)
        return machine.stack.pop()
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise CheckpointError(f"{where}: is not a complete pickle ({problem}). The file is damaged.") from None
