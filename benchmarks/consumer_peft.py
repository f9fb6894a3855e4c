"""peft and trl as consumers: runs in its own environment (.venv-peft), as JSON asks on the command line.

    python consumer_peft.py '{"folder", "adapter", "train": false, "texts", "rows": [token ids], "logits": FILE.npy}'

With `train`, TRL's SFTTrainer first trains a new LoRA adapter on `texts` and saves it as `adapter`. peft then loads the
adapter onto the folder, and the logits of each row are kept one below the other.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np
import peft
import torch
import transformers
import trl

STEPS = 3
MAX_TOKENS = 64
LEARNING_RATE = 5e-3  # large: three steps are to change the logits visibly


def train(folder: str, texts: list[str], adapter: str) -> list[float]:
    """Train, save the adapter, return the loss of each step."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with tempfile.TemporaryDirectory() as outputs:
        settings = trl.SFTConfig(
            output_dir=outputs,
            max_steps=STEPS,
            per_device_train_batch_size=1,
            learning_rate=LEARNING_RATE,
            max_length=MAX_TOKENS,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            seed=0,
        )
        trainer = trl.SFTTrainer(
            model=model,
            args=settings,
            train_dataset=_dataset(texts),
            processing_class=transformers.AutoTokenizer.from_pretrained(folder),
            peft_config=peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        trainer.train()
        trainer.save_model(adapter)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logits(folder: str, adapter: str, rows: list[list[int]]) -> np.ndarray:
    """float32 (all rows' tokens, V) with the adapter beside the weights."""
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([row])).logits[0].numpy() for row in rows])


def _dataset(texts: list[str]) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"text": texts})


def main() -> None:
    """Train if asked to, then compute."""
    request = json.loads(sys.argv[1])
    losses = train(request["folder"], request["texts"], request["adapter"]) if request.get("train") else []
    np.save(request["logits"], logits(request["folder"], request["adapter"], request["rows"]))
    versions = {name: module.__version__ for name, module in (("peft", peft), ("trl", trl))}
    print(json.dumps({"versions": versions | {"transformers": transformers.__version__}, "losses": losses}))


if __name__ == "__main__":
    main()
