"""The real starter model writes what transformers writes with the same weights in float32, on every backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gemcut

pytestmark = pytest.mark.backend
GOLDEN = json.loads(
    (Path(__file__).resolve().parents[1] / "golden" / "starter_greedy.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def lm(starter_path, engine):
    lm = gemcut.load(starter_path, engine=engine, dtype="float32")
    yield lm
    lm.close()


@pytest.mark.parametrize("answer", GOLDEN["answers"], ids=lambda answer: answer["prompt"][:11].strip())
def test_greedy_text_is_that_of_transformers(lm, answer):
    assert answer["least_margin"] > 1e-3  # no logit is so near the best that rounding could decide
    done = lm.generate(answer["prompt"], max_tokens=answer["max_tokens"])
    assert lm.tokenizer.encode(answer["prompt"]) == answer["prompt_ids"]
    assert (done.token_ids, done.text) == (answer["token_ids"], answer["text"])
    assert done.usage["completion_tokens"] == answer["max_tokens"]
