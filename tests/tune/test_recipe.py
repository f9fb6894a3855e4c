"""Recipes: written completely, read back equal, and every mistake in one named."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from gemcut.errors import MissingExtraError, UsageError
from gemcut.tune.recipe import LoraSettings, OptimizerSettings, Recipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
LEAST = {"model": "starter", "data": "chats.jsonl"}


def test_a_recipe_needs_model_and_data_only():
    recipe = Recipe.from_dict(LEAST)
    assert recipe == Recipe(model="starter", data=("chats.jsonl",))
    assert recipe.lora == LoraSettings(rank=16, alpha=32.0)


def test_it_is_written_completely_and_read_back_equal():
    recipe = Recipe.from_dict({
        **LEAST,
        "data": ["a.jsonl", "b.jsonl"],
        "lora": {"rank": 8, "targets": "q_proj"},
        "samples": {"map": {"prompt": "Frage: {q}\nAntwort: ä"}, "sequence_length": 256},
        "learning_rate": 3e-05,
        "clip_norm": None,
    })  # fmt: skip
    text = recipe.to_yaml()
    assert Recipe.from_yaml(text) == recipe
    assert Recipe.from_yaml(text).digest() == recipe.digest()
    for field in dataclasses.fields(Recipe):
        assert f"\n{field.name}:" in f"\n{text}"


def test_numbers_as_people_write_them():
    recipe = Recipe.from_yaml("model: m\ndata: d.jsonl\nlearning_rate: 2e-4\nepochs: 3\nsteps: 1000.0\nclip_norm: ~\n")
    assert (recipe.learning_rate, recipe.epochs, recipe.steps, recipe.clip_norm) == (2e-4, 3.0, 1000, None)
    assert isinstance(recipe.epochs, float)


def test_the_digest_follows_what_decides_the_weights():
    base = Recipe.from_dict(LEAST)
    assert Recipe.from_dict({**LEAST, "checkpoints": {"every": 5}}).digest() == base.digest()
    for change in ({"seed": 1}, {"lora": {"rank": 4}}, {"optimizer": {"beta2": 0.95}}, {"data": "other.jsonl"}):
        assert Recipe.from_dict({**LEAST, **change}).digest() != base.digest()


WRONG = {
    "no mapping": ("- a\n", "r.yaml: is list, expected keys and values"),
    "no YAML": ("model: [\n", r"r.yaml, line 2: is not YAML \(.*\). Correct it"),
    "another format": ("format: 2\nmodel: m\ndata: d\n", "r.yaml: its format is 2, expected 1"),
    "unknown": ("model: m\ndata: d\nlearning_rat: 1\n", "r.yaml: 'learning_rat' is no setting. Did you mean 'learning_rate'"),
    "unknown, far off": ("model: m\ndata: d\nzzz: 1\n", "r.yaml: 'zzz' is no setting, expected some of model, data"),
    "inner": ("model: m\ndata: d\nlora: {r: 4}\n", "r.yaml: lora: 'r' is no setting"),
    "inner kind": ("model: m\ndata: d\nlora: 4\n", "r.yaml: lora: is 4, expected keys and values"),
    "missing": ("data: d\n", "r.yaml: 'model' is missing, expected a text"),
    "whole number": ("model: m\ndata: d\nbatch_size: 1.5\n", "r.yaml: batch_size is 1.5, expected a whole number"),
    "switch": ("model: m\ndata: d\nlora: {rslora: 1}\n", "r.yaml: lora: rslora is 1, expected true or false"),
    "text": ("model: 3\ndata: d\n", "r.yaml: model is 3, expected a text"),
    "texts": ("model: m\ndata: [3]\n", r"r.yaml: data is \[3\], expected a text or a list of texts"),
    "table": ("model: m\ndata: d\nsamples: {map: {a: 1}}\n", "samples: map is {'a': 1}, expected texts by name"),
    "choice": ("model: m\ndata: d\nmethod: dora\n", "r.yaml: method is 'dora', expected one of lora, qlora, full"),
    "range": ("model: m\ndata: d\nlora: {rank: 0}\n", "r.yaml: lora: rank is 0, expected at least 1"),
    "both ends": ("model: m\ndata: d\nlora: {dropout: 1}\n", "dropout is 1.0, expected at least 0 and at most 0.99"),
    "above": ("model: m\ndata: d\nlearning_rate: 0\n", "learning_rate is 0.0, expected more than 0"),
    "not finite": ("model: m\ndata: d\nlearning_rate: .nan\n", "learning_rate is nan, expected a number"),
    "null": ("model: m\ndata: d\nlearning_rate: null\n", "learning_rate is None, expected a number"),
    "or null": ("model: m\ndata: d\nclip_norm: x\n", "clip_norm is 'x', expected a number, or null"),
    "no data": ("model: m\ndata: []\n", "r.yaml: data is empty"),
    "two held out": ("model: m\ndata: d\nevaluation: {share: 0.1, data: e}\n", "evaluation has both share and data"),
    "patience": ("model: m\ndata: d\nevaluation: {patience: 2}\n", "evaluation.patience needs held-out samples"),
    "warm-up": ("model: m\ndata: d\nwarmup: 1.5\n", "warmup is 1.5, expected whole steps, or a share below 1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=list(WRONG))
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError, match=message):
        Recipe.from_yaml(text, "r.yaml")


def test_without_yaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"Recipes need PyYAML.*gemcut\[tune\]"):
        Recipe.from_dict(LEAST).to_yaml()


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipes_that_are_brought_load(path):
    recipe = Recipe.from_yaml(path.read_text(encoding="utf-8"), path.name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_there_are_recipes():
    assert {"classification", "gsm8k"} <= {path.stem for path in RECIPES}
    assert OptimizerSettings().name == "adamw"
