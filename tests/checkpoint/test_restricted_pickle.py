"""Pickle as data: plain values come through, everything else is refused without being run."""

from __future__ import annotations

import collections
import datetime
import pickle
import pickletools
from typing import Any

import pytest

from gemcut.checkpoint.restricted_pickle import load_pickle
from gemcut.errors import CheckpointError

PLAIN = {
    "numbers": [0, 1, 255, 70_000, -5, 2**40, 2**80, 1.5],
    "text": ["", "a", "ü" * 300, b"bytes"],
    "nested": ({"a": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}, None, True, False, []),
    "shared": [["x"]] * 3,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_plain_values_come_through(value: Any, protocol: int) -> None:
    if protocol == 2 and value is PLAIN["text"]:
        value = [entry for entry in value if isinstance(entry, str)]
    assert load_pickle(pickle.dumps(value, protocol), "p") == value


def test_an_ordered_dict_is_a_dict() -> None:
    value = collections.OrderedDict(a=1, b=2)
    assert load_pickle(pickle.dumps(value, 2), "p") == {"a": 1, "b": 2}


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


REFUSED = {
    "class": (pickle.dumps(datetime.date(2024, 2, 21), 2), "contains the name 'datetime.date', expected tensors only"),
    "class, new form": (pickle.dumps(datetime.date(2024, 2, 21), 4), "contains the name 'datetime.date'"),
    "builtin": (pickled(b"cbuiltins\neval\n"), "contains the name 'builtins.eval'"),
    "attribute of torch": (pickled(b"ctorch\nload\n"), "contains the name 'torch.load'"),
    "set": (pickle.dumps({1, 2}, 4), "contains the pickle operation EMPTY_SET"),
    "old instance": (pickled(b"(i__main__\nA\n"), "contains the pickle operation INST"),
    "extension": (pickled(b"\x82\x01"), "contains the pickle operation EXT1"),
    "call of a number": (pickled(b"K\x01", b")", b"R"), "contains a call of something other than a tensor"),
    "call of a storage": (pickled(b"ctorch\nFloatStorage\n", b")", b"R"), "contains a call of something other"),
    "empty": (b"", "is not a complete pickle"),
    "ends early": (pickle.dumps([1, 2], 2)[:-1], "is not a complete pickle"),
    "stack empty": (pickled(), r"is not a complete pickle \(pop from empty list\)"),
    "no mark": (pickled(b"t"), r"is not a complete pickle \(no mark\)"),
    "stack too short": (pickled(b"N\x87"), r"is not a complete pickle \(stack too short\)"),
    "unknown memo": (pickled(b"h\x07"), "is not a complete pickle"),
    "odd items": (pickled(b"}(K\x01u"), "is not a complete pickle"),
    "key is a tuple": (pickled(b"})Ns"), "a key is neither text nor a number"),
    "append to a dict": (pickled(b"}K\x01a"), "is not a complete pickle"),
    "claimed text": (pickled(b"X\xff\xff\xff\x7fabc"), "is not a complete pickle"),
    "no storage": (pickled(b"(X\x01\x00\x00\x00aK\x01K\x01K\x01K\x01tQ"), "a persistent id is not a storage"),
    "storage of no type": (
        pickled(b"(X\x07\x00\x00\x00storageccollections\nOrderedDict\nX\x01\x00\x00\x000NK\x01tQ"),
        "a persistent id is not a storage",
    ),
    "negative size": (
        pickled(
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ",
            b"K\x00J\xff\xff\xff\xff\x85K\x01\x85tR",
        ),
        "a tensor's numbers are not sizes",
    ),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_pickle(data, "p")


def test_a_huge_memo_number_costs_nothing() -> None:
    # Python's own unpickler would make room for four billion entries.
    assert load_pickle(pickled(b"K\x05r\xff\xff\xff\xff"), "p") == 5


def test_deep_nesting_is_harmless() -> None:
    deep = pickled(b"N" + b"\x85" * 300_000)
    assert isinstance(load_pickle(deep, "p"), tuple)
    assert pickletools.opcodes  # the table that the interpreter walks by
    with pytest.raises(CheckpointError, match="a key is neither text nor a number"):
        load_pickle(pickled(b"}N" + b"\x85" * 300_000 + b"Ns"), "p")
