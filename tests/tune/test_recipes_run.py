"""Each recipe of `recipes/` trains the real starter for two steps, from data in its own form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ROWS = {
    "gsm8k": {"question": "Ann has {n} pens and buys 2. How many has she?", "answer": "{n} + 2.\n#### {m}"},
    "arc": {"question": "What has {n} legs?", "answer": "an animal of {n} legs"},
    "classification": {"text": "They are {n} good people", "label": "neutral"},
    "starter-it": {
        "messages": [{"role": "user", "content": "Say {n}."}, {"role": "assistant", "content": "{n}, gladly."}]
    },
}


def filled(value, number):
    """The row with its numbers."""
    text = json.dumps(value).replace("{n}", str(number)).replace("{m}", str(number + 2))
    return json.loads(text)


def test_every_recipe_is_run():
    assert set(ROWS) == {path.stem for path in RECIPES.glob("*.yaml")}


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_trains_the_starter(name, starter_path, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(filled(ROWS[name], number)) + "\n" for number in range(12)))
    command = ["tune", str(RECIPES / f"{name}.yaml"), str(data), "--output", str(tmp_path / "run"), "--steps", "2"]
    flags = ["--accumulation", "1", "--sequence-length", "64", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "gemcut", *command, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "step"] == [1, 2]
    held_out = [line["loss"] for line in log if line["kind"] == "evaluation"]
    assert held_out[-1] < held_out[0]
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
