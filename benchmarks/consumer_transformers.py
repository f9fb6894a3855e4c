"""transformers as a consumer: logits of a folder, as JSON asks on the command line.

python consumer_transformers.py '{"folder", "dtype", "rows": [token ids], "logits": FILE.npy, "half_gelu": false}'

`half_gelu` computes Gemma's activation from half precision, as llama.cpp's table does, so that the two can be compared.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import transformers

TABLE_ENDS = 10.0  # ggml's table is used between these; outside it is 0, and x


class HalfGelu(torch.nn.Module):
    """The tanh form of GELU on inputs rounded to float16, itself rounded to float16.

    Source: ggml, ggml_vec_gelu_f32 with GGML_GELU_FP16.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of the shape and dtype of x."""
        rounded = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -TABLE_ENDS, 0.0, torch.where(x >= TABLE_ENDS, x, rounded))


def main() -> None:
    """Load, compute every row by itself, keep the logits one below the other."""
    request = json.loads(sys.argv[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["folder"], dtype=request["dtype"], attn_implementation="eager"
    ).eval()
    if request.get("half_gelu"):
        for module in model.modules():
            if hasattr(module, "act_fn"):
                module.act_fn = HalfGelu()
    with torch.no_grad():
        rows = [model(torch.tensor([row])).logits[0].float().numpy() for row in request["rows"]]
    np.save(request["logits"], np.concatenate(rows))
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({"versions": versions, "dtypes": dtypes}))


if __name__ == "__main__":
    main()
