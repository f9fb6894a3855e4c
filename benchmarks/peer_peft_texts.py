"""PEFT as a peer that writes: greedy answers of a model with an adapter. Runs in its own environment.

    python peer_peft_texts.py MODEL_FOLDER ADAPTER_FOLDER PROMPTS.json ANSWERS.json

PROMPTS holds "prompts" (lists of token ids), "max_tokens" and "stop" (token ids that end an answer, and are left out).
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import peft
import torch
import transformers

PACKAGES = ("torch", "transformers", "peft")


def main() -> None:
    """Write an answer to each prompt."""
    folder, adapter, source, target = sys.argv[1:]
    request = json.loads(Path(source).read_text())
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, adapter).eval()
    answers = []
    for prompt in request["prompts"]:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request["max_tokens"],
                do_sample=False,
                eos_token_id=request["stop"],
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
        answers.append(written[:-1] if written and written[-1] in request["stop"] else written)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    Path(target).write_text(json.dumps({"versions": versions, "answers": answers}))


main()
