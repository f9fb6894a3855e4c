"""Writes tests/golden/peft: adapters as peft saves them, and the logits that peft computes with them.

Run it again only when the cases change; it needs peft: python tests/golden/make_peft_adapters.py
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import peft
import safetensors.numpy
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
from adapter_cases import CASES, EXPECTED, GOLDEN, NUM_TOKENS, AdapterCase, write_base


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            make(case, write_base(case.config, Path(folder)))


def make(case: AdapterCase, base: Path) -> None:
    """One case's folder: the adapter with seeded factors, and the logits of a seeded sequence."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.get_peft_model(plain, peft.LoraConfig(task_type="CAUSAL_LM", **case.settings)).eval()
    generator = np.random.default_rng(23)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.from_numpy(generator.standard_normal(parameter.shape, dtype=np.float32) / 4)
    token_ids = generator.integers(0, case.config.vocab_size, NUM_TOKENS)
    with torch.no_grad():
        logits = model(torch.from_numpy(token_ids)[None]).logits[0].numpy()
        with model.disable_adapter():
            plain_logits = model(torch.from_numpy(token_ids)[None]).logits[0].numpy()
    folder = GOLDEN / case.name
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # a form that peft leaves to be filled in
    settings = folder / "adapter_config.json"
    content = json.loads(settings.read_text()) | {"base_model_name_or_path": None}
    if isinstance(content["target_modules"], list):
        content["target_modules"].sort()
    settings.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    arrays = {"token_ids": token_ids, "logits": logits, "plain_logits": plain_logits}
    safetensors.numpy.save_file(arrays, folder / EXPECTED)


if __name__ == "__main__":
    main()
