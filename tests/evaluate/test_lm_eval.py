"""lm-evaluation-harness and Gemcut agree; where an environment has it: .venv-lmeval, or GEMCUT_LMEVAL_PYTHON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import gemcut
from gemcut.checkpoint import convert
from gemcut.text import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("GEMCUT_LMEVAL_PYTHON") or ROOT / ".venv-lmeval" / "bin" / "python")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n{{ message.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TASKS = {
    "tiny_choices": "output_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: choices\ndoc_to_target: gold",
    "tiny_texts": (
        "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{choices[gold]}}'\n"
        "generation_kwargs: {until: ['\\n', ' the'], max_gen_toks: 8, do_sample: false}"
    ),
    # Not the texts of tiny_choices, which lm-eval would take for the same requests.
    "tiny_whole": "output_type: loglikelihood\ndoc_to_text: ''\ndoc_to_target: '{{choices[0]}} {{question}}'",
    "tiny_rolling": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{choices[0]}} {{question}}'",
}
ROWS = [
    {"question": "The cat sat on the", "choices": ["mat", "roof of the house", "42"], "gold": 0},
    {"question": "Question: What is one and one?\nAnswer:", "choices": ["two", "three"], "gold": 0},
    {"question": "A space at the end ", "choices": ["moves", "stays"], "gold": 0},
    {"question": "", "choices": ["Nothing before", "nothing at all"], "gold": 1},
    {"question": "Größe, naïve, 東京", "choices": ["1½", "…"], "gold": 1},
]

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has lm-eval."""
    if not PYTHON.is_file():
        pytest.skip(f"{PYTHON} is not there: make .venv-lmeval/.installed, or name one with GEMCUT_LMEVAL_PYTHON")
    return str(PYTHON)


@pytest.fixture(scope="module")
def tiny_folder(write_tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as Hugging Face has it, with a fast tokenizer and a chat template.

    It writes no single bytes, of which sentencepiece and tokenizers make different signs where they are no character.
    """
    import safetensors.numpy

    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "source", max_position_embeddings=2048)
    tokenizer = load_tokenizer(folder / "source" / "tokenizer.model")
    weights = safetensors.numpy.load_file(folder / "source" / "model.safetensors")
    for token_id in range(tokenizer.vocab_size):
        if tokenizer.piece_of(token_id).startswith("<0x"):
            weights["lm_head.weight"][token_id] = 0  # the best of hundreds of random logits is above 0
    safetensors.numpy.save_file(weights, folder / "source" / "model.safetensors", {"format": "pt"})
    convert(folder / "source", folder / "hf", "hf", type="F32")
    (folder / "hf" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder / "hf"


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files of lm-eval over a few rows."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    for name, lines in TASKS.items():
        source = (
            f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\ntest_split: test\n"
        )
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{source}{lines}\n", encoding="utf-8")
    return folder


def answers_of(python: str, model: Path, tasks: Path, folder: Path, *flags: str) -> dict[str, Any]:
    """What both backends give; the script is named as the command is, which is how Gemcut's model is found."""
    shutil.copy(Path(__file__).with_name("lm_eval_script.py"), folder / "lm_eval")
    registration = ROOT / "src" / "gemcut_lm_eval.pth"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [python, str(folder / "lm_eval"), str(model), str(tasks), sysconfig.get_path("purelib"), str(registration), *flags],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("flags", [(), ("--chat",)], ids=["plain", "chat"])
def test_gemcut_as_a_model_of_lm_eval_answers_as_its_own_backend(
    python: str, tiny_folder: Path, tasks_folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    found = answers_of(python, tiny_folder, tasks_folder, tmp_path, *flags)
    ours, theirs = found["gemcut"]["answers"], found["hf"]["answers"]

    assert found["gemcut"]["prompts"] == found["hf"]["prompts"]
    assert ours["tiny_texts"] == theirs["tiny_texts"]
    for one, other in zip(ours["tiny_choices"], theirs["tiny_choices"], strict=True):
        for (mine,), (its,) in zip(one, other, strict=True):
            assert float(mine[0]) == pytest.approx(float(its[0]), abs=1e-3)
            assert mine[1] == its[1]
    whole = {name: [one[0][0][0] for one in found[name]["answers"]["tiny_whole"]] for name in found}
    assert flat(whole["gemcut"]) == pytest.approx(flat(whole["hf"]), abs=1e-3)
    if not flags:
        # lm-eval's own rolling figures put BOS in front twice, and count how probable the second one is.
        assert flat(ours["tiny_rolling"]) == pytest.approx(flat(whole["hf"]), abs=1e-3)
    assert found["gemcut"]["config"]["gemcut_engine"] == "native"


def flat(values: Any) -> list[float]:
    return [number for value in values for number in flat(value)] if isinstance(values, list) else [float(values)]


def test_the_registration_says_nothing_to_other_programs(tmp_path: Path) -> None:
    """Its line runs whenever Python starts, and does something for `lm_eval` alone."""
    line = (ROOT / "src" / "gemcut_lm_eval.pth").read_text()
    assert line.count("\n") == 1
    code = f"import sys; before = set(sys.modules); exec({line!r}); print(set(sys.modules) - before)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    script = tmp_path / "lm_eval"
    script.write_text(
        "import sys, types\nregistered = {}\nmodule = types.ModuleType('lm_eval.api.registry')\n"
        "module.model_registry = types.SimpleNamespace(register=lambda name, target: registered.update({name: target}))\n"
        "for name in ('lm_eval', 'lm_eval.api', 'lm_eval.models'): sys.modules[name] = types.ModuleType(name)\n"
        f"sys.modules['lm_eval.api.registry'] = module\nexec({line!r})\nprint(registered)"
    )
    output = subprocess.run([sys.executable, str(script), "--model", "gemcut"], capture_output=True, text=True).stdout
    assert output == "{'gemcut': 'gemcut.evaluate.lm_eval_adapter:GemcutLM'}\n"


@pytest.fixture(scope="module")
def peer(python: str, tiny_folder: Path, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """lm-eval with the tiny model, over the data beside the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from alternating import Worker

        script = str(ROOT / "benchmarks" / "peer_lmeval.py")
        cache = {"HF_HOME": str(tmp_path_factory.mktemp("cache"))}
        with Worker("lm-eval", [python, script, str(tiny_folder), "--threads", "1"], cache) as worker:
            yield worker


@pytest.mark.parametrize(("name", "shots"), [("hellaswag", 1), ("winogrande", 1), ("arc_easy", 0), ("crows_pairs", 0)])
def test_choices_are_scored_as_lm_eval_scores_them(peer, tiny_folder: Path, name: str, shots: int) -> None:
    found = compared(peer, tiny_folder, name, 4, shots)

    assert found["items"] == 4
    assert found["max_difference"] < 1e-3
    assert (found["different_greedy"], found["different_prompts"], found["different_metrics"]) == (0, [], [])


@pytest.mark.parametrize(("name", "shots"), [("triviaqa", 2), ("gsm8k", 1)])
def test_texts_are_those_of_lm_eval(peer, tiny_folder: Path, name: str, shots: int) -> None:
    found = compared(peer, tiny_folder, name, 3, shots, max_tokens=8)

    assert (found["different_texts"], found["different_prompts"], found["different_metrics"]) == ([], [], [])


def compared(peer: Any, folder: Path, name: str, num_items: int, shots: int, max_tokens: int | None = None) -> Any:
    """The facts that benchmarks/proof_lm_eval.py gathers of a task."""
    import eval_items
    import proof_lm_eval

    from gemcut.evaluate.asker import Asker
    from gemcut.evaluate.encoding import Encoder

    model = gemcut.load(folder, engine="native", dtype="float32")
    items = eval_items.TaskItems(name, num_items, shots, max_tokens=max_tokens)
    encoded = items.encoded(Encoder(model))
    ours = items.answers(Asker(model), encoded)
    theirs = proof_lm_eval.by_item(peer.ask(items.peer_request(max_tokens)))
    facts = proof_lm_eval.differences(items, encoded, ours, theirs, model)
    model.close()
    return facts
