"""TRL and PEFT as a peer: trains on given rows in its own environment, and says what it took.

    python peer_trl.py REQUEST.json ANSWER.json

The request: "folder" (a Hugging Face model), "rows" (an npz file of tune_rows.py), "dtype", "rank", "alpha", "targets",
"rows_per_step", "num_steps", "learning_rate", "gradient_checkpointing", "threads", and optionally "factors" (a
safetensors file of PEFT's names, to begin with) and "schedule" of learning rates, one for each step.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import peft
import safetensors.torch
import torch
import transformers
import trl

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")


class Clock(transformers.TrainerCallback):
    """Seconds, processor seconds and loss of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Begin to count."""
        self._begin, self._cpu_begin = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Keep the step's seconds."""
        self.seconds.append(time.perf_counter() - self._begin)
        self.cpu_seconds.append(time.process_time() - self._cpu_begin)

    def on_log(self, _args: object, _state: object, _control: object, logs: dict | None = None, **__: object) -> None:
        """Keep the step's loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class InOrder(trl.SFTTrainer):
    """A trainer that takes the rows as they come, at given learning rates."""

    rates: list[float] | None = None

    def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> object:
        """A scheduler of the given rates; the trainer's own where there are none."""
        if self.rates is None:
            return super().create_scheduler(num_training_steps, optimizer)
        optimizer = optimizer or self.optimizer
        base, rates = self.args.learning_rate, [*self.rates, self.rates[-1]]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[step] / base)
        return self.lr_scheduler


def examples_of(path: str) -> datasets.Dataset:
    """The packed rows as TRL takes them: ids, labels at the tokens' own places, lengths of the documents."""
    rows = np.load(path)
    examples = []
    for ids, targets, segments in zip(rows["token_ids"], rows["targets"], rows["segments"], strict=True):
        count = int((segments > 0).sum())
        labels = np.full(count, -100)
        labels[1:] = np.where(targets[: count - 1] >= 0, targets[: count - 1], -100)
        lengths = np.bincount(segments[:count])[1:].tolist()
        examples.append({"input_ids": ids[:count].tolist(), "labels": labels.tolist(), "seq_lengths": lengths})
    return datasets.Dataset.from_list(examples)


def main() -> None:
    """Train, then write seconds, losses, tokens and memory."""
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(request["threads"])
    transformers.logging.set_verbosity_error()
    dtype = getattr(torch, request["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["folder"], dtype=dtype, attn_implementation=request.get("attention", "sdpa")
    )
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=request["rank"], lora_alpha=request["alpha"], target_modules=request["targets"]
    )
    arguments = trl.SFTConfig(
        output_dir=request["scratch"],
        per_device_train_batch_size=1,
        gradient_accumulation_steps=request["rows_per_step"],
        max_steps=request["num_steps"],
        learning_rate=request["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=request.get("clip_norm", 1.0),
        weight_decay=0.0,
        gradient_checkpointing=request["gradient_checkpointing"],
        bf16=request["dtype"] == "bfloat16",
        use_cpu=True,
        padding_free=True,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
    )
    clock = Clock()
    trainer = InOrder(
        model=model,
        args=arguments,
        train_dataset=examples_of(request["rows"]),
        processing_class=transformers.PreTrainedTokenizerFast(
            tokenizer_object=_no_tokenizer(), pad_token="<pad>", eos_token="<eos>"
        ),
        peft_config=settings,
        callbacks=[clock],
    )
    trainer.rates = request.get("rates")
    if request.get("factors"):
        loaded = safetensors.torch.load_file(request["factors"])
        peft.set_peft_model_state_dict(trainer.model, loaded)
    trainer.train()
    answer = {
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "losses": clock.losses,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


def _no_tokenizer() -> object:
    """A tokenizer with two words: the rows hold ids already."""
    import tokenizers

    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))


main()
