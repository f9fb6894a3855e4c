"""The head of a model card."""

import pytest

from gemcut.errors import CheckpointError
from gemcut.hub import model_card
from gemcut.hub.model_card import read_model_card

CARD = """---
license: gemma
base_model:
- google/gemma-2b
- "google/gemma-2b-it"
tags: [text-generation, 'gemma' ]
empty:
widget:
  - text: hello
    nested: deep
library_name: transformers
---
# A model
license: mit
"""


def test_words_and_lists_of_the_head(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    assert read_model_card(tmp_path) == {
        "license": ["gemma"],
        "base_model": ["google/gemma-2b", "google/gemma-2b-it"],
        "tags": ["text-generation", "gemma"],
        "widget": ["text: hello"],
        "library_name": ["transformers"],
    }


@pytest.mark.parametrize(
    "text", [None, "", "# A model\n", "---\nlicense: mit\n"], ids=["no-file", "empty", "no-head", "cut"]
)
def test_card_without_a_head_says_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert read_model_card(tmp_path) == {}


def test_file_too_large_for_a_card_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "_MAX_CARD_BYTES", 10)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    with pytest.raises(CheckpointError, match="README.md: is 21 bytes, expected at most 10"):
        read_model_card(tmp_path)
