"""Hugging Face transformers as a peer; answers one measured run for each line on standard input.

python peer_transformers.py FOLDER DTYPE
"""

import json
import sys
import time

import torch
import transformers


def main() -> None:
    """Load, then answer "PROMPT_TOKENS NEW_TOKENS" lines with {"seconds", "token_ids"}."""
    folder, dtype = sys.argv[1:3]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        prompt_ids, new_tokens = json.loads(line)
        inputs = torch.tensor([prompt_ids])
        begin = time.perf_counter()
        output = model.generate(inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
        made = output[0, len(prompt_ids) :].tolist()
        print(json.dumps({"seconds": time.perf_counter() - begin, "token_ids": made}), flush=True)


main()
