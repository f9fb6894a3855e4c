"""The scanner agrees with Python's reader about what a JSON object is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemcut.text.json_scanner import MAX_DEPTH, JsonObjectScanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def scan(text):
    scanner = JsonObjectScanner()
    return scanner.push(text), scanner


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_an_object_ends_where_it_ends(value, ensure_ascii, indent):
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    size, scanner = scan(text + '} "more"')
    assert (size, scanner.is_done, scanner.is_broken) == (len(text), True, False)
    size, scanner = scan(text[:-1])
    assert (size, scanner.is_done, scanner.is_broken) == (len(text) - 1, False, False)


@given(st.text(alphabet='{}[]",:\\ \n0123-+.eEtrufalsn/x', max_size=12))
def test_what_is_no_json_is_never_done(inside):
    text = "{" + inside
    size, scanner = scan(text)
    if scanner.is_done:
        assert isinstance(json.loads(text[:size]), dict)
    else:
        assert not is_json(text)
        assert scanner.is_broken == (size < len(text))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 0),
        ("[1]", 0),
        ('"a"', 0),
        ("{,", 1),
        ('{"a"}', 4),
        ('{"a":}', 5),
        ('{"a":1,}', 7),
        ('{"a":01}', 7),
        ('{"a":nul}', 8),
        ('{"a":"\n"}', 6),
        ('{"a":"\\x"}', 7),
        ('{"a":"\\u12g4"}', 10),
        ('{"a":[1}', 7),
        ('{"a":[1,]}', 8),
        ("{'a'", 1),
        ('{"a":NaN}', 5),
        ('{"a":' + "[" * 200, 5 + MAX_DEPTH - 1),
    ],
)
def test_it_stops_at_the_first_character_that_does_not_belong(text, size):
    found, scanner = scan(text)
    assert (found, scanner.is_broken, scanner.is_done) == (size, True, False)
    assert scanner.push("}") == 0 or scanner.is_broken
