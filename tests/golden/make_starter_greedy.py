"""Writes starter_greedy.json: what transformers makes of the starter's weights, dequantised to float32, greedily.

Run it again only when the starter or the prompts change: python tests/golden/make_starter_greedy.py
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from gemcut import hub

PROMPTS = {
    "The capital of France is": 20,
    "The planets of the solar system, in order from the Sun, are": 32,
    "def fibonacci(n):\n": 20,
}


def main() -> None:
    path = hub.starter_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    answers = []
    for prompt, max_tokens in PROMPTS.items():
        prompt_ids = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            whole = model.generate(torch.tensor([prompt_ids]), max_new_tokens=max_tokens, do_sample=False)[0].tolist()
        margins = margins_of(model, whole, len(prompt_ids))
        token_ids = whole[len(prompt_ids) :]
        answers.append(
            {
                "prompt": prompt,
                "max_tokens": max_tokens,
                "prompt_ids": prompt_ids,
                "token_ids": token_ids,
                "text": tokenizer.decode(token_ids),
                "least_margin": round(min(margins), 4),
            }
        )
    made_by = {"transformers": transformers.__version__, "torch": torch.__version__}
    target = Path(__file__).with_name("starter_greedy.json")
    target.write_text(json.dumps({"made_by": made_by, "answers": answers}, indent=1, ensure_ascii=False) + "\n")
    print(target.read_text())


def margins_of(model: transformers.PreTrainedModel, token_ids: list[int], prompt_length: int) -> list[float]:
    """How far the chosen logit is above the next one at each step: rounding must be far below."""
    with torch.no_grad():
        logits = model(torch.tensor([token_ids])).logits[0, prompt_length - 1 : -1]
    best = logits.topk(2).values
    return (best[:, 0] - best[:, 1]).tolist()


if __name__ == "__main__":
    main()
