"""PEFT under PyTorch's autograd: gradients of an adapter's factors. Runs in its own environment.

    python peer_peft.py MODEL_FOLDER ADAPTER_FOLDER DOCUMENTS.json GRADIENTS.safetensors

DOCUMENTS holds [token ids, whether each is learnt] pairs; the loss is the mean over all learnt tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import peft
import safetensors.torch
import torch
import transformers


def main() -> None:
    """Compute and write the gradients, and the loss as a tensor of its own."""
    model_folder, adapter_folder, documents, target = sys.argv[1:]
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="eager"
    )
    model = peft.PeftModel.from_pretrained(plain, adapter_folder, is_trainable=True).eval()
    total, count = torch.zeros(()), 0
    for ids, learnt in json.loads(Path(documents).read_text()):
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
        targets = torch.tensor([token if flag else -100 for token, flag in zip(ids[1:], learnt[1:], strict=True)])
        total = total + torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        count += sum(learnt[1:])
    loss = total / count
    loss.backward()
    gradients = {
        name.removeprefix("base_model.model.").replace(".default.weight", ""): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    safetensors.torch.save_file({**gradients, "loss": loss.detach()[None]}, target)


main()
