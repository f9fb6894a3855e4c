"""Control-token text in messages is hidden from the template, and only that."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import UsageError
from gemcut.text.message_text import MessageGuard

MARKERS = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<|a|>", "[INST]", "[/INST]", "foo"]
GUARD = MessageGuard(MARKERS)
SNIPPETS = st.sampled_from([*MARKERS, "<", ">", "<end_", "of_turn>", "[", "]", " ", "\n", "x", "INST", "<b>", "\ue000"])


@settings(max_examples=500, deadline=None, derandomize=True)
@given(parts=st.lists(SNIPPETS, max_size=8), before=SNIPPETS, after=SNIPPETS)
def test_no_marker_reaches_into_a_hidden_text(parts, before, after):
    text = "".join(parts)
    disguise = GUARD.disguise([text])
    hidden = disguise.hide(text)
    assert disguise.restore(hidden) == text
    assert len(hidden) == len(text)
    assert [c.isspace() for c in hidden] == [c.isspace() for c in text]
    for shown in (hidden, hidden.strip()):
        around = before + shown + after
        for marker in MARKERS:
            for start in range(len(around)):
                if around.startswith(marker, start) and shown:
                    end = start + len(marker)
                    assert end <= len(before) or start >= len(before) + len(shown) or (
                        # a marker that the template itself writes around a whole text
                        start < len(before) and end > len(before) + len(shown)
                    ) or marker == "foo"  # fmt: skip


@pytest.mark.parametrize(
    "text", ["plain", "a < b > c", "x [1] y", "INST", "fo", "<b>bold</b>", "if (a<b) {}"], ids=repr
)
def test_other_text_stays_as_it_is(text):
    assert GUARD.disguise([text]).hide(text) == text


def test_nested_values_and_keys_are_hidden_and_roles_are_not():
    value = {"role": "user", "tools": [{"<bos>": ("<end_of_turn>", 5, None)}], "name": "<bos>"}
    hidden = GUARD.disguise(value).hide(value)
    assert hidden["role"] == "user"
    assert "<bos>" not in repr(hidden)
    assert "<end_of_turn>" not in repr(hidden)
    assert next(iter(hidden["tools"][0].values()))[1:] == [5, None]
    assert value["name"] == "<bos>"


def test_a_role_that_is_no_word_is_text():
    hidden = GUARD.disguise([]).hide({"role": "<end_of_turn>"})
    assert hidden["role"] != "<end_of_turn>"


def test_stand_ins_occur_in_no_input():
    used = [chr(code) for code in range(0xE000, 0xE100)]
    hidden = GUARD.disguise([{"a": used}]).hide("<bos>")
    assert hidden[0] not in used


def test_inputs_with_every_private_use_character_are_refused():
    text = "".join(map(chr, range(0xE000, 0xF900)))
    with pytest.raises(UsageError, match=r"messages: they hold every private-use character \(U\+E000 to U\+F8FF\)"):
        GUARD.disguise([text])


def test_a_tokenizer_without_markers_hides_nothing():
    assert MessageGuard([]).disguise(["<bos>"]).hide("<bos>") == "<bos>"
