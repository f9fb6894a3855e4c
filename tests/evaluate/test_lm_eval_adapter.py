"""Gemcut as a model of lm-evaluation-harness, whose classes are played here: what it gives and what it refuses."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import gemcut
from gemcut.errors import TemplateError, UsageError

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n{{ message.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
pytestmark = pytest.mark.native


class PlayedLM:
    """What the adapter needs of lm-eval's base class."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any, Any]] = []
        self.cache_hook = types.SimpleNamespace(add_partial=lambda *kept: self.kept.append(kept))


@pytest.fixture(scope="module")
def adapter() -> Any:
    """The adapter's module."""
    pytest.importorskip("tqdm")
    played: dict[str, Any] = {name: types.ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.models")}
    played["lm_eval.api.model"] = types.SimpleNamespace(LM=PlayedLM)
    played["lm_eval.api.registry"] = types.SimpleNamespace(register_model=lambda name: lambda kind: kind)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in played.items():
            patch.setitem(sys.modules, name, module)
        yield importlib.import_module("gemcut.evaluate.lm_eval_adapter")
    sys.modules.pop("gemcut.evaluate.lm_eval_adapter", None)


@pytest.fixture(scope="module")
def folder(write_tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def lm(adapter: Any, folder: Path) -> Any:
    return adapter.GemcutLM(str(folder), engine="native", dtype="float32", batch_size=1, device="cpu")


def asked(*arguments: Any) -> list[Any]:
    return [types.SimpleNamespace(args=each) for each in arguments]


def test_log_probabilities_are_those_of_the_model_in_the_order_of_the_requests(lm: Any, folder: Path) -> None:
    requests = asked(
        ("The sun", " is"), ("", "The sun"), ("A long text before it", " ends here"), ("The sun", " was hot")
    )

    found = lm.loglikelihood(requests, disable_tqdm=True)

    model = gemcut.load(folder, engine="native", dtype="float32")
    for request, (logprob, is_greedy) in zip(requests, found, strict=True):
        context, continuation = request.args
        before = context if context else [model.tokenizer.bos_token_id]
        assert logprob == pytest.approx(model.score(before, continuation).logprob, abs=1e-4)
        assert is_greedy is False
    assert [kept[0] for kept in lm.kept] == ["loglikelihood"] * 4
    assert lm.loglikelihood_rolling(asked(("The sun",)), disable_tqdm=True) == [pytest.approx(found[1][0], abs=1e-4)]


def test_texts_end_where_the_settings_say(lm: Any, folder: Path) -> None:
    model = gemcut.load(folder, engine="native", dtype="float32")
    whole = model.generate("The sun", max_tokens=12).text
    settings = [
        {"until": [], "max_gen_toks": 12, "do_sample": False},
        {"until": whole[4], "max_gen_toks": 12, "temperature": 0.0},
        {"until": [], "max_gen_toks": 3, "do_sample": False},
    ]

    texts = lm.generate_until(asked(*(("The sun", each) for each in settings)), disable_tqdm=True)

    assert texts == [whole, whole[: whole.index(whole[4])], model.generate("The sun", max_tokens=3).text]


def test_sampled_texts_differ_with_the_temperature(adapter: Any) -> None:
    options = adapter.generation_options({"do_sample": True, "temperature": 0.8, "top_p": 0.9, "until": ["x"]})

    assert options == {"stop": ("x",), "max_tokens": 256, "temperature": 0.8, "top_p": 0.9}
    assert adapter.generation_options({"temperature": 0.0}) == {"stop": (), "max_tokens": 256}
    assert adapter.generation_options({"do_sample": True})["temperature"] == 1.0


def test_a_conversation_goes_through_the_chat_template_and_has_bos_once(adapter: Any, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    lm = adapter.GemcutLM(str(folder), engine="native", dtype="float32")
    messages = [{"role": "user", "content": "The sun"}]

    text = lm.apply_chat_template(messages)
    [(logprob, _)] = lm.loglikelihood(asked((text, "is")), disable_tqdm=True)

    assert text == "<bos><start_of_turn>user\nThe sun<end_of_turn>\n<start_of_turn>model\n"
    assert lm.apply_chat_template([*messages, {"role": "assistant", "content": "It"}], False).endswith("\nIt")
    assert lm.chat_template(True) == TEMPLATE
    assert lm.chat_template() == ""
    tokenizer = lm.model.tokenizer  # as in lm-eval, space at the end of the prompt belongs to what is scored
    prompt = tokenizer.encode_parts(tokenizer.split_special(text.removesuffix("\n")))
    assert logprob == pytest.approx(lm.model.score(prompt, tokenizer.encode("\nis", add_bos=False)).logprob, abs=1e-4)
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert lm.tokenizer_name.startswith("gemcut-")
    assert lm.get_model_info()["gemcut_engine"] == "native"
    with pytest.raises(UsageError, match="--apply_chat_template other: a model has one template here"):
        lm.chat_template("other")
    (folder / "chat_template.jinja").unlink()


def test_a_model_without_a_chat_template_says_so(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm.model, "template", None)
    with pytest.raises(TemplateError, match="the model has no chat template. Leave --apply_chat_template out"):
        lm.chat_template(True)


def test_what_it_cannot_do_is_named(adapter: Any, folder: Path) -> None:
    with pytest.raises(
        UsageError, match="--model_args: 'parallelize' is none of Gemcut's, expected some of pretrained"
    ):
        adapter.GemcutLM(str(folder), parallelize=True)
    with pytest.raises(UsageError, match="--device cuda:0: the engine native computes on cpu. Leave it out"):
        adapter.GemcutLM(str(folder), engine="native", device="cuda:0")
    with pytest.raises(UsageError, match="--gen_kwargs: 'typical_p' is not known, expected some of temperature, top_k"):
        adapter.generation_options({"typical_p": 0.5})
    with pytest.raises(UsageError, match="--gen_kwargs: num_beams is 4, expected 1"):
        adapter.generation_options({"num_beams": 4})
