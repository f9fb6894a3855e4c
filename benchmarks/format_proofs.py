"""What other programs make of the files that Gemcut writes from the starter: one function for each of them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from alternating import Worker
from worker_protocol import quality

import gemcut
from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.adapter import Adapter, write_adapter
from gemcut.checkpoint.gguf_file import read_gguf
from gemcut.hub import starter_path
from gemcut.inspect.verify import TEXTS
from gemcut.interfaces import LowRankUpdate
from gemcut.quantize.mix import MIXES

HERE = Path(__file__).resolve().parent
NUM_ROWS = 2
ROW_TOKENS = 128
NEW_TOKENS = 24
PROMPTS = ("The planets of the solar system are", "Water boils at", "In 1905, Albert Einstein published")
# float32 on both sides, in another order of additions: logits of the starter reach 30, and 18 layers add up.
SAME_LOGITS = 1e-3
BFLOAT16_KL = 5e-3  # nats; docs/verify.md has what rounding to bfloat16 alone does
LLAMA_CPP_KL = 1e-4  # nats: its table of the activation in half precision, and no more
LLAMA_CPP_PERPLEXITY = 0.02  # of the same quantised file: inputs rounded to 8 bits in another way
FLOAT32_FLAGS = ("--no-flash", "--float32-cache")
# Those whose query scale and window llama.cpp knows too.
SHRUNK = ("gemma", "gemma-multi-head", "gemma2", "gemma3", "gemma3-linear", "llama2", "mistral-no-window")
SHRUNK_TOKENS = 29
ADAPTED = ("q_proj.weight", "v_proj.weight", "down_proj.weight")
PYTHONS = {name: HERE.parent / f".venv-{name}" / "bin" / "python" for name in ("llamacpp", "peft", "vllm", "nemo")} | {
    "transformers": Path(sys.executable)
}


@dataclasses.dataclass
class Row:
    """One line of the verdict.

    Attributes:
        consumer: The program.
        what: What it was given, and what was compared.
        level: "run" (it computed with the file), "loaded" or "not run".
        figure: What was found, in words.
        limit: What was allowed, in words; "-" for none.
        met: None where nothing was measured.
        data: The numbers, and the versions of the program.
    """

    consumer: str
    what: str
    level: str
    figure: str
    limit: str
    met: bool | None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)


class Subject:
    """The starter in the forms that consumers are given, and what Gemcut itself computes from it.

    Args:
        folder: An empty folder with room for about 4 GB.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.float32 = folder / "float32"
        convert("starter", self.float32, for_consumer="transformers", type="F32")
        with contextlib.closing(gemcut.load(self.float32, engine="native", dtype="float32")) as model:
            tokenizer = model.tokenizer
            self.texts = TEXTS.read_text(encoding="utf-8").split("\n\n")
            token_ids = tokenizer.encode(TEXTS.read_text(encoding="utf-8"))
            bos, rest = token_ids[0], token_ids[1:]
            width = ROW_TOKENS - 1
            self.rows = [[bos, *rest[width * row : width * (row + 1)]] for row in range(NUM_ROWS)]
            self.prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
            self.greedy = _greedy(model, self.prompts)
            self.logits = _logits(model, self.rows)

    def computed(self, path: Path, adapter: Path | None = None, dtype: str = "float32") -> np.ndarray:
        """float32 (tokens of all rows, V) of the native engine."""
        with contextlib.closing(gemcut.load(path, engine="native", dtype=dtype, adapter=adapter)) as model:
            return _logits(model, self.rows)

    def greedy_with(self, adapter: Path) -> list[list[int]]:
        """What is generated after each prompt with an adapter."""
        with contextlib.closing(gemcut.load(self.float32, engine="native", dtype="float32", adapter=adapter)) as model:
            return _greedy(model, self.prompts)

    def compared(self, found: np.ndarray, ours: np.ndarray) -> dict[str, float]:
        """Distance of logits of all rows, from ours: "max_error", and means of "kl", "same_top" and "nll"."""
        sums: dict[str, float] = {}
        for row, token_ids in enumerate(self.rows):
            part = slice(row * ROW_TOKENS, (row + 1) * ROW_TOKENS)
            for key, value in quality(found[part], ours[part], token_ids).items():
                sums[key] = sums.get(key, 0.0) + value
        means = {key: sums[key] / sums["tokens"] for key in ("kl", "same_top", "nll")}
        return {"max_error": float(np.abs(found - ours).max()), **means}


def consume(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run consumer_NAME.py in its environment; its answer.

    Raises:
        RuntimeError: it failed.
    """
    command = [str(PYTHONS[name]), str(HERE / f"consumer_{name}.py"), json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        problem = next(reversed(done.stderr.strip().splitlines()), "no message")  # all of it would name local paths
        raise RuntimeError(f"consumer_{name}.py ended with {done.returncode}: {problem[:300]}")
    answer: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return answer


def transformers_rows(subject: Subject) -> Iterator[Row]:
    """Folders in float32 and bfloat16 in transformers."""
    file = subject.folder / "logits.npy"
    request = {"folder": str(subject.float32), "dtype": "float32", "rows": subject.rows, "logits": str(file)}
    answer = consume("transformers", request)
    data = subject.compared(np.load(file), subject.logits)
    yield _logits_row("transformers", "hf F32: logits against our native engine", data, answer)
    folder = subject.folder / "bfloat16"
    convert("starter", folder, for_consumer="transformers", type="BF16")
    answer = consume("transformers", request | {"folder": str(folder), "dtype": "auto"})
    data = subject.compared(np.load(file), subject.logits)
    met = answer["dtypes"] == ["bfloat16"] and data["kl"] <= BFLOAT16_KL
    what = "hf BF16: loads as bfloat16; computed in it, mean KL to float32"
    yield Row("transformers", what, "run", _distance(data), f"KL <= {BFLOAT16_KL}", met, data | answer)


def peft_rows(subject: Subject) -> Iterator[Row]:
    """An adapter of ours in peft, and one that TRL trained in Gemcut."""
    file, ours = subject.folder / "logits.npy", subject.folder / "adapter-ours"
    request = {"folder": str(subject.float32), "rows": subject.rows, "logits": str(file)}
    _write_random_adapter(ours, subject)
    answer = consume("peft", request | {"adapter": str(ours)})
    data = subject.compared(np.load(file), subject.computed(subject.float32, ours))
    yield _logits_row("peft", "an adapter that we wrote: logits", data, answer)
    trained = subject.folder / "adapter-trl"
    answer = consume("peft", request | {"adapter": str(trained), "train": True, "texts": subject.texts})
    theirs = np.load(file)
    moved = float(np.abs(theirs - subject.logits).max())
    data = subject.compared(theirs, subject.computed(subject.float32, trained)) | {"moved": moved}
    row = _logits_row("trl", "SFTTrainer on our folder, its adapter loaded here: logits", data, answer)
    row.met = bool(row.met) and moved > 100 * SAME_LOGITS and all(np.isfinite(answer["losses"]))
    row.figure += f"; training moved them by {moved:.2g}"
    yield row


def llama_cpp_rows(subject: Subject) -> Iterator[Row]:
    """GGUF files in every type in llama.cpp."""
    path = subject.folder / "model.gguf"
    convert("starter", path, for_consumer="llama.cpp", type="F32")
    theirs, versions = _llama_cpp(path, subject, *FLOAT32_FLAGS)
    data = subject.compared(theirs, subject.logits)
    met = data["kl"] <= LLAMA_CPP_KL and data["same_top"] >= 0.99
    what = "gguf F32: logits; its table of the activation is in half precision"
    yield Row(
        "llama.cpp", what, "run", _distance(data), f"KL <= {LLAMA_CPP_KL}, same top >= 99 %", met, data | versions
    )
    yield _shrunk_families_row(subject)
    path.unlink()
    for kind in MIXES:
        if kind == "F32":
            continue
        convert("starter", path, for_consumer="llama.cpp", type=kind)
        theirs, versions = _llama_cpp(path, subject)
        data = subject.compared(theirs, subject.logits)
        ours = subject.compared(subject.computed(path, dtype="auto"), subject.logits)
        apart = float(np.exp(data["nll"] - ours["nll"]) - 1)
        figure = f"perplexity {np.exp(data['nll']):.2f}, ours {np.exp(ours['nll']):.2f} ({apart:+.2%})"
        met = abs(apart) <= LLAMA_CPP_PERPLEXITY
        data |= {"ours": ours, "bytes": path.stat().st_size}
        yield Row(
            "llama.cpp",
            f"gguf {kind}: perplexity",
            "run",
            figure,
            f"<= {LLAMA_CPP_PERPLEXITY:.0%} apart",
            met,
            data | versions,
        )
        path.unlink()


def gguf_rows(subject: Subject) -> Iterator[Row]:
    """A file read by the gguf package: fields as we read them, numbers as in the file it was made from."""
    path = subject.folder / "fields.gguf"
    convert("starter", path, "gguf", type="F32")
    ours, _ = read_gguf(path)
    theirs, source = gguf.GGUFReader(path), gguf.GGUFReader(starter_path())
    fields = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    wrong = sorted(key for key in fields.keys() | ours.keys() if key not in ours or fields.get(key) != ours[key])
    lost = sorted(key for key in source.fields if key.startswith("tokenizer.") and key not in fields)
    written = {tensor.name: np.asarray(tensor.data) for tensor in theirs.tensors}
    wrong += [
        tensor.name
        for tensor in source.tensors
        if not np.array_equal(written[tensor.name], gguf.dequantize(tensor.data, tensor.tensor_type))
    ]
    figure = f"{len(fields)} fields, {len(written)} tensors; {len(wrong) + len(lost)} differ"
    data = {"wrong": wrong, "lost": lost, "versions": {"gguf": importlib.metadata.version("gguf")}}
    what = "gguf F32: every field, every number of the starter"
    yield Row("gguf", what, "loaded", figure, "none differs", not (wrong or lost), data)
    path.unlink()


def vllm_rows(subject: Subject) -> Iterator[Row]:
    """A folder, and an adapter beside it, in vLLM on the CPU."""
    folder = subject.folder / "vllm"
    convert("starter", folder, for_consumer="vllm", type="F32")
    request = {"folder": str(folder), "rows": subject.prompts, "max_tokens": NEW_TOKENS}
    yield _greedy_row("hf F32: greedy token ids", consume("vllm", request), subject.greedy)
    adapter = subject.folder / "adapter-vllm"
    _write_random_adapter(adapter, subject)
    answer = consume("vllm", request | {"adapter": str(adapter)})
    yield _greedy_row("the same with an adapter that we wrote", answer, subject.greedy_with(adapter))


def nemo_rows(subject: Subject) -> Iterator[Row]:
    """The recipe in NeMo Automodel's own loader."""
    folder = subject.folder / "nemo"
    convert("starter", folder, for_consumer="nemo", type="BF16")
    answer = consume("nemo", {"recipe": str(folder / "automodel_recipe.yaml")})
    rejected = answer["rejected"]
    figure = f"{len(answer['accepted'])} sections accepted, a wrong key {'rejected' if rejected else 'accepted'}"
    what = "automodel_recipe.yaml in its own config loader; the same with a wrong key"
    yield Row("nemo", what, "loaded", figure, "accepted, rejected", rejected, answer)


def _logits(model: Any, rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([model.logits(row) for row in rows])


def _greedy(model: Any, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    return [model.generate(prompt, max_tokens=NEW_TOKENS).token_ids for prompt in prompts]


def _distance(data: dict[str, float]) -> str:
    return f"max error {data['max_error']:.2g}, mean KL {data['kl']:.2g}, same top {data['same_top']:.1%}"


def _logits_row(consumer: str, what: str, data: dict[str, Any], answer: dict[str, Any]) -> Row:
    met = data["max_error"] <= SAME_LOGITS and data["same_top"] == 1
    return Row(consumer, what, "run", _distance(data), f"error <= {SAME_LOGITS}, same top 100 %", met, data | answer)


def _greedy_row(what: str, answer: dict[str, Any], ours: list[list[int]]) -> Row:
    same = sum(one == other for one, other in zip(answer["token_ids"], ours, strict=True))
    figure = f"{same} of {len(ours)} texts of {NEW_TOKENS} tokens the same"
    data = {"versions": answer["versions"], "same": same, "texts": len(ours)}
    return Row("vllm", what, "run", figure, "all", same == len(ours), data)


def _write_random_adapter(folder: Path, subject: Subject) -> None:
    """A seeded LoRA of rank 4 on queries, values and down projections that changes the logits visibly."""
    generator = np.random.default_rng(7)
    with open_checkpoint(subject.float32) as checkpoint:
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items() if name.endswith(ADAPTED)}
    folder.mkdir()
    updates = {
        name: LowRankUpdate(
            (generator.standard_normal((4, columns)) / columns**0.5).astype(np.float32),
            (0.02 * generator.standard_normal((rows, 4))).astype(np.float32),
            2.0,
        )
        for name, (rows, columns) in shapes.items()
    }
    write_adapter(folder, Adapter(updates))


def _shrunk_families_row(subject: Subject) -> Row:
    """Small random models of every kind that llama.cpp computes, against transformers with the same table.

    Few values pass through so small a table that float32's own rounding moves one of them to its next entry; in the
    starter many do, so there the two agree no better than with an exact activation.
    """
    sys.path.append(str(HERE.parent / "tests" / "parity"))
    from families import FAMILIES, token_rows, write_reference

    row, errors = token_rows([SHRUNK_TOKENS])[0], {}
    for family in (family for family in FAMILIES if family.name in SHRUNK):
        folder, path = subject.folder / family.name, subject.folder / f"{family.name}.gguf"
        write_reference(family, folder)
        convert(folder, path, for_consumer="llama.cpp", type="F32")
        file = subject.folder / "logits.npy"
        request = {"folder": str(folder), "dtype": "float32", "rows": [row], "logits": str(file)}
        consume("transformers", request | {"half_gelu": "Gemma" in family.config_class})
        theirs, versions = _llama_cpp(path, subject, *FLOAT32_FLAGS, rows=[row])
        errors[family.name] = float(np.abs(theirs - np.load(file)).max())
    worst = max(errors, key=lambda name: errors[name])
    figure = f"max error {errors[worst]:.2g} ({worst})"
    what = f"gguf F32 of {len(errors)} shrunk families: logits against transformers with such a table"
    met = errors[worst] <= SAME_LOGITS
    return Row("llama.cpp", what, "run", figure, f"error <= {SAME_LOGITS}", met, {"errors": errors} | versions)


def _llama_cpp(
    path: Path, subject: Subject, *flags: str, rows: Sequence[Sequence[int]] | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """float32 (tokens of all rows, V), the subject's rows by default; and the version."""
    file = subject.folder / "llama-cpp.npy"
    command = [str(PYTHONS["llamacpp"]), str(HERE / "peer_llamacpp.py"), str(path), "--context", "256", *flags]
    logits = []
    with Worker("llama.cpp", command) as worker:
        for row in rows or subject.rows:
            worker.ask({"do": "logits", "token_ids": row, "file": str(file)})
            logits.append(np.load(file))
        version = worker.versions["llama-cpp-python"]
    return np.concatenate(logits), {"versions": {"llama-cpp-python": version}}
