"""Move the starter off every grid: a short full-parameter training run, saved as a float16 Hugging Face folder.

    python benchmarks/prepare_moved_starter.py FLOAT32_FOLDER TEXT.jsonl.gz TOKENIZER FOLDER [--steps N]

FLOAT32_FOLDER is what prepare_starter.py wrote; TEXT has one JSON object a line, with "prompt" and "completion";
TOKENIZER is a folder with Gemma 3's tokenizer files, as they are or as .gz. The starter's own file lies on 4- to 8-bit
grids, so nothing is lost when it is quantised again: it cannot tell a good quantiser from a bad one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

from gemcut.checkpoint import open_checkpoint
from gemcut.generate.load import tokenizer_of
from gemcut.hub import starter_path

LEARNING_RATE = 3e-4  # a step moves a weight by about so much: 24 of them by about half a step of Q4_0
WARM_UP_STEPS = 4


def token_rows(text: Path, num_rows: int, row_tokens: int) -> torch.Tensor:
    """Texts of the file in a shuffled order, cut into rows; int64 (num_rows, row_tokens)."""
    with open_checkpoint(starter_path()) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
    with gzip.open(text, "rt", encoding="utf-8") as file:
        texts = [f"{record['prompt']} {record['completion']}" for record in map(json.loads, file)]
    random.Random(0).shuffle(texts)
    token_ids: list[int] = []
    for one in texts:
        token_ids += tokenizer.encode(one)
        if len(token_ids) >= num_rows * row_tokens:
            return torch.tensor(token_ids[: num_rows * row_tokens]).reshape(num_rows, row_tokens)
    raise SystemExit(f"{text}: holds {len(token_ids)} tokens, expected {num_rows * row_tokens}. Ask for fewer steps.")


def train(model: torch.nn.Module, rows: torch.Tensor, num_steps: int) -> None:
    """AdamW over all parameters, a batch of rows a step, learning rate warmed up and then falling to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for step, batch in enumerate(rows.chunk(num_steps)):
        rate = min((step + 1) / WARM_UP_STEPS, (num_steps - step) / (num_steps - WARM_UP_STEPS))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1} of {num_steps}: loss {loss.item():.4f}", flush=True)


def main() -> None:
    """Train, and write the folder whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--row-tokens", type=int, default=256)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.source, dtype=torch.float32)
    train(model, token_rows(options.text, options.steps * options.batch, options.row_tokens), options.steps)
    partial = options.folder.with_name(options.folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # GGUF has it in float32: 9.99999997e-07 instead of what every published file says.
    model.config.rms_norm_eps = float(str(np.float32(model.config.rms_norm_eps)))
    model.to(torch.float16).save_pretrained(partial)
    for file in options.tokenizer.glob("tokenizer*"):
        data = file.read_bytes()
        (partial / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(data) if file.suffix == ".gz" else data)
    partial.rename(options.folder)


if __name__ == "__main__":
    main()
