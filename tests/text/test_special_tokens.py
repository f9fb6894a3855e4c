"""Control tokens and stop ids."""

from __future__ import annotations

import pytest

from gemcut.errors import ConfigError
from gemcut.text import load_tokenizer, stop_token_ids
from gemcut.text.special_tokens import is_marker


@pytest.mark.parametrize(
    "piece",
    ["<start_of_turn>", "<mask>", "<unused12>", "<2mass>", "[@BOS@]", "[multimodal]", "[toxicity=0]", "<|tool>",
     "<turn|>", '<|"|>', "<|fim_prefix|>", "<escape>", "<start_function_call>", "<image_soft_token>", "<unused6242>"],
)  # fmt: skip
def test_markers(piece):
    assert is_marker(piece)


@pytest.mark.parametrize(
    "piece", ["<table>", "</h3>", "<s>", "</s>", "<bbox>", "<footer>", "\n\n", "\u2581\u2581", "\t", "<", "<>", "[ ]",
              "<a b>", "a>", "word"],
)  # fmt: skip
def test_text_pieces(piece):
    assert not is_marker(piece)


@pytest.mark.parametrize(
    ("generation_config", "expected"),
    [(None, {1, 15}), ({}, {1, 15}), ({"eos_token_id": 1}, {1, 15}), ({"eos_token_id": [1, 50]}, {1, 15, 50})],
    ids=["none", "empty", "number", "list"],
)
def test_stop_ids_are_a_union(generation_config, expected, gemma):
    assert gemma.id_of("<end_of_turn>") == 15
    assert stop_token_ids(gemma, generation_config) == tuple(sorted(expected))


@pytest.mark.parametrize("eos", ["</s>", [1, "x"], {"id": 1}], ids=str)
def test_an_end_id_that_is_no_number_is_an_error(eos, gemma):
    with pytest.raises(
        ConfigError, match=r"generation_config: eos_token_id is .*, expected a token id or a list of them"
    ):
        stop_token_ids(gemma, {"eos_token_id": eos})


def test_html_end_tags_stop_nothing(gemma, llama):
    assert gemma.id_of("</s>") not in stop_token_ids(gemma)
    assert stop_token_ids(llama) == (2,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma-1", (1, 107)),
        ("gemma-3", (1, 106)),
        ("gemma-4", (1, 106)),
        ("llama-2", (2,)),
        ("mistral-v0.1", (2,)),
        ("mistral-v0.3", (2,)),
    ],
)
def test_stop_ids_of_real_families(name, expected, unpacked):
    assert stop_token_ids(load_tokenizer(unpacked(name) / "tokenizer.model")) == expected
