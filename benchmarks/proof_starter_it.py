"""`starter-it` answers alike as adapter and merged, in the C++ engine, on PyTorch and in peft.

    python benchmarks/proof_starter_it.py [--requests N] [--max-tokens N]

The starter's weights in float32 and the adapter of distributions/starter-it; held-out requests in the chat template,
greedy. Everyone gets the same token ids: peft with transformers, Gemcut's native engine and its Keras decoder on
PyTorch with the adapter beside the weights, and the native engine with a GGUF file that the adapter was merged into. An
answer may part from peft's only where the two tokens are closer than rounding (0.001 in natural log) can tell.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from eval_items import DATA, HERE, gap_at, starter_folder
from run import machine

import gemcut

sys.path.insert(0, str(HERE.parent / "recipes" / "starter_it"))
from write_data import held_out_requests

ADAPTER = HERE.parent / "distributions" / "starter-it" / "src" / "gemcut_starter_it" / "adapter"
PEER_PYTHON = HERE.parent / ".venv-peft" / "bin" / "python"
RESULT = HERE / "results" / "starter-it-answers.json"
NEAR_TIE = 1e-3
PARIS = "What is the capital of France?"


def main() -> None:
    """Ask all, compare, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    requests = held_out_requests(DATA)
    texts = [PARIS, *requests[:: len(requests) // (arguments.requests - 1)]][: arguments.requests]
    with tempfile.TemporaryDirectory() as scratch:
        result = compared(texts, arguments.max_tokens, Path(scratch))
    result |= {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/proof_starter_it.py", *sys.argv[1:]]),
        "machine": machine(),
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, facts in result["programs"].items():
        print(f"{name:<22} {facts['equal']} of {len(texts)} equal peft's, {len(facts['near_ties'])} near ties, "
              f"{len(facts['different'])} different")  # fmt: skip
    print(f"{PARIS} {result['paris']}")
    sys.exit(1 if any(facts["different"] for facts in result["programs"].values()) else 0)


def compared(texts: list[str], max_tokens: int, scratch: Path) -> dict[str, Any]:
    """Answers of all programs beside peft's."""
    folder, merged = starter_folder(), scratch / "merged.gguf"
    convert = ["convert", str(folder), str(merged), "--to", "gguf", "--type", "F32", "--adapter", str(ADAPTER)]
    subprocess.run([sys.executable, "-m", "gemcut", *convert, "--quiet"], check=True)
    programs = {
        "native, adapter": (folder, "native", ADAPTER),
        "native, merged GGUF": (merged, "native", None),
        "PyTorch, adapter": (folder, "torch", ADAPTER),
    }
    prompts: list[list[int]] = []
    peers: list[list[int]] = []
    facts: dict[str, Any] = {}
    for name, (path, engine, adapter) in programs.items():
        model = gemcut.load(path, engine=engine, dtype="float32", adapter=adapter)
        asked = [model.chat_prompt([{"role": "user", "content": text}]) for text in texts]
        if not prompts:
            prompts = asked
            stop = [model.tokenizer.eos_token_id, model.tokenizer.id_of("<end_of_turn>")]
            versions, peers = peer_answers(prompts, max_tokens, stop, scratch)
        if asked != prompts:
            raise RuntimeError(f"{name}: the prompts are others.")
        facts[name] = differences(model, prompts, peers, max_tokens, stop)
        paris = model.tokenizer.decode(peers[texts.index(PARIS)])  # Gemcut's too, where nothing is different
        model.close()
    return {"versions": versions, "programs": facts, "requests": len(texts), "max_tokens": max_tokens, "paris": paris}


def peer_answers(
    prompts: list[list[int]], max_tokens: int, stop: list[int], scratch: Path
) -> tuple[dict[str, str], list[list[int]]]:
    """Versions and token ids of what peft answers."""
    source, target = scratch / "prompts.json", scratch / "answers.json"
    source.write_text(json.dumps({"prompts": prompts, "max_tokens": max_tokens, "stop": stop}))
    command = [str(PEER_PYTHON), str(HERE / "peer_peft_texts.py"), str(starter_folder()), str(ADAPTER)]
    subprocess.run([*command, str(source), str(target)], check=True)
    found = json.loads(target.read_text())
    return found["versions"], found["answers"]


def differences(
    model: Any, prompts: list[list[int]], peers: list[list[int]], max_tokens: int, stop: list[int]
) -> dict[str, Any]:
    """Where the answers part from peft's, and by how much the model prefers one."""
    found: dict[str, Any] = {"equal": 0, "near_ties": [], "different": []}
    for number, (prompt, peer) in enumerate(zip(prompts, peers, strict=True)):
        done = model.generate(prompt, max_tokens=max_tokens, temperature=0.0)
        ours = [token for token in done.token_ids if token not in stop]
        if ours == peer:
            found["equal"] += 1
            continue
        gap = gap_at(model, prompt, ours, peer)
        found["near_ties" if gap < NEAR_TIE else "different"].append(
            [number, gap, done.text, model.tokenizer.decode(peer)]
        )
    return found


if __name__ == "__main__":
    main()
