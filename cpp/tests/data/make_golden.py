"""What C++ must read out of configurations and quantised rows: configs.json and rows.bin, made by the Python side.

python cpp/tests/data/make_golden.py            writes both
python cpp/tests/data/make_golden.py --check    compares and writes nothing
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.config import PUBLISHED, config_from_gguf, config_from_hf, config_to_gguf, config_to_hf
from gemcut.errors import ConfigError

FOLDER = Path(__file__).resolve().parent
# Every key of every base is set to every one of these, and the key None takes it away.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 4, 256.0, 0.5, 1.0, "", "gelu", "silu", "linear", "mistral", [], {}),
    *([3, 3, 3], [1, 2], [True, True], ["full_attention"], ["full_attention", "sliding_attention"]),
    {"rope_type": "linear", "factor": 8.0},
    {"type": "linear", "factor": 2},
    {"rope_type": "yarn", "factor": 8.0},
    {"rope_type": None, "rope_theta": 5e5, "partial_rotary_factor": 1},
    {"rope_type": "default", "factor": 2.0},
    {"full_attention": {"rope_theta": 1e6}, "sliding_attention": None},
    {"full_attention": {"rope_type": "linear", "factor": 8}, "rope_theta": 1.0},
]
# Keys that no base has.
HF_KEYS = """quantization_config attention_bias mlp_bias pretraining_tp use_sliding_window sliding_window_size
rope_parameters rope_local_base_freq _sliding_window_pattern pad_token_id hidden_act hidden_activation surprise
torch_dtype pruned_heads text_config layer_types""".split()
GGUF_KEYS = """attention.sliding_window attention.sliding_window_pattern attn_logit_softcapping expert_count
attention.causal rope.scaling.type rope.scaling.factor rope.scale_linear rope.freq_base_swa rope.scaling.attn_factor
tensor_data_layout surprise""".split()
GGUF_COMMON_KEYS = """general.architecture general.name general.basename tokenizer.ggml.tokens
tokenizer.ggml.bos_token_id tokenizer.ggml.padding_token_id tokenizer.ggml.eos_token_id
tokenizer.ggml.eot_token_id tokenizer.ggml.eom_token_id""".split()
# Number, name, block length and block size in the order of the golden rows; float16 scales lie at these bytes.
ROW_TYPES = {
    "F32": (), "F16": (), "BF16": (), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
ROW_VALUES = 256


def main() -> int:
    """Write the files, or say which one differs."""
    made = {"configs.json": configs().encode(), "rows.bin": rows()}
    for name, data in made.items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            path.write_bytes(data)
        elif not path.is_file() or path.read_bytes() != data:
            sys.stderr.write(f"{path.name} differs from what Python reads. Run: python {Path(__file__).name}\n")
            return 1
    return 0


def configs() -> str:
    """All bases with what Python makes of them and of each change, as JSON, one line a key.

    Of each change a number: 0 refused, 1 the base's configuration, from 2 on the differences, listed in the last line.
    """
    differences: dict[str, int] = {"null": 0, "{}": 1}
    lines = [compact({"values": VALUES})]
    for kind, data in bases():
        whole = read(kind, data)
        assert whole
        lines.append(compact({"kind": kind, "data": data, "config": whole}))
        keys = [*data, *HF_KEYS] if kind == "huggingface" else [*data, *(prefix(data) + key for key in GGUF_KEYS)]
        keys += GGUF_COMMON_KEYS if kind == "gguf" else []
        for key in dict.fromkeys(keys):
            found = [compact(one) for one in results(kind, data, key, whole)]
            numbers = [differences.setdefault(one, len(differences)) for one in found]
            lines.append(compact({"key": key, "results": numbers}))
    lines.append(compact({"differences": [json.loads(one) for one in differences]}))
    return "\n".join(lines) + "\n"


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def results(kind: str, data: dict[str, Any], key: str, whole: dict[str, Any]) -> list[Any]:
    """For the key's absence and each value: None where it is refused, else the fields that differ from `whole`."""
    # GGUF has neither null nor objects.
    values = [value for value in VALUES if kind == "huggingface" or not (value is None or isinstance(value, dict))]
    found: list[Any] = []
    for changed in [{k: v for k, v in data.items() if k != key}, *({**data, key: value} for value in values)]:
        config = read(kind, changed)
        found.append(config and {name: value for name, value in config.items() if value != whole[name]})
    return found


def bases() -> list[tuple[str, dict[str, Any]]]:
    """Small decoders of each family, in both formats, and a multimodal config.json."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in ("gemma-2b", "gemma-2-2b", "gemma-3-270m", "llama-2-7b", "mistral-7b-v0.1"):
        config = PUBLISHED[name].config
        layers = 3 if name != "gemma-3-270m" else 7
        config = dataclasses.replace(config, num_hidden_layers=layers, layer_types=config.layer_types[:layers])
        data = config_to_hf(config)
        found.append(("huggingface", data))
        metadata = config_to_gguf(config) | {"tokenizer.ggml.tokens": ["a", "b"], "general.name": name}
        metadata |= {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1}
        found.append(("gguf", metadata))
        if name == "gemma-3-270m":
            text = {key: value for key, value in data.items() if key != "eos_token_id"}
            found.append(("huggingface", {"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]}))
    found.append(("huggingface", {"model_type": "gemma2"}))
    return found


def prefix(metadata: dict[str, Any]) -> str:
    """What the architecture's keys begin with."""
    return f"{metadata['general.architecture']}."


def read(kind: str, data: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration that Python reads, or None where it refuses."""
    try:
        config = config_from_hf(data, "x") if kind == "huggingface" else config_from_gguf(as_float32(data), "x")
    except ConfigError:
        return None
    fields = dataclasses.asdict(config)
    return json.loads(json.dumps(fields | {"rope_parameters": dict(fields["rope_parameters"])}))


def as_float32(metadata: dict[str, Any]) -> dict[str, Any]:
    """Floats as they come back from a GGUF file; the keys that GGUF cannot hold as they are."""
    return {key: float(np.float32(value)) if isinstance(value, float) else value for key, value in metadata.items()}


def rows() -> bytes:
    """For each type: number, bytes and values as uint32, the stored row, its values in float32."""
    from gguf import GGMLQuantizationType, quants
    from gguf.constants import GGML_QUANT_SIZES

    generator, parts = np.random.default_rng(20), []
    for name, scales in ROW_TYPES.items():
        kind = GGMLQuantizationType[name]
        block_values, block_bytes = GGML_QUANT_SIZES[kind]
        blocks = generator.integers(0, 256, (ROW_VALUES // block_values, block_bytes), np.uint8)
        if not scales:
            values = generator.standard_normal(ROW_VALUES).astype(np.float32)
            values[:4] = [0.0, -0.0, 6e-8, 65504.0]
            blocks = quants.quantize(values, kind).view(np.uint8)
        for at in scales:
            scale = generator.standard_normal(len(blocks)).astype(np.float16) / 64
            scale[0] = 3e-7  # a subnormal
            blocks[:, at : at + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
        stored = np.ascontiguousarray(blocks).reshape(-1)
        values = quants.dequantize(stored, kind).astype(np.float32).reshape(-1)
        parts += [
            np.array([kind.value, stored.size, ROW_VALUES], np.uint32).tobytes(),
            stored.tobytes(),
            values.tobytes(),
        ]
    return b"".join(parts)


if __name__ == "__main__":
    sys.exit(main())
