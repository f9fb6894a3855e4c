"""cpp/formats/tables.h, written from the Python tables; with --check, compares and writes nothing."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gemcut.checkpoint import checkpoint, gguf_file, names, safetensors_file
from gemcut.config import PUBLISHED, gguf, huggingface
from gemcut.config.decoder import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, layer_shapes
from gemcut.quantize.ggml_types import GGML_TYPES

TARGET = Path(__file__).resolve().parents[1] / "cpp" / "formats" / "tables.h"
HEADER = """// Tables that C++ shares with Python. Written by scripts/cpp_tables.py from src/gemcut; do not edit.
#pragma once

#include "formats/table_types.h"

namespace gemcut::tables {
"""
TRAITS = ("scale_embeddings", "norm_unit_offset", "post_norms", "qk_norm", "hidden_activation")
LIMITS = {
    "kMaxKeys": gguf_file.MAX_KEYS,
    "kMaxTensors": gguf_file.MAX_TENSORS,
    "kMaxArrayItems": gguf_file.MAX_ARRAY_ITEMS,
    "kMaxKeyBytes": gguf_file.MAX_KEY_BYTES,
    "kMaxDimensions": gguf_file.MAX_DIMENSIONS,
    "kMaxAlignment": gguf_file.MAX_ALIGNMENT,
    "kMaxHeaderBytes": safetensors_file.MAX_HEADER_BYTES,
    "kMaxPaddingRows": checkpoint.MAX_PADDING_ROWS,
}
# Sizes that differ from one another and from all products of them that a shape can have.
SIZES = {"hidden_size": 13, "intermediate_size": 17, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 2}
AXES = {13: "hidden", 17: "intermediate", 6 * 2: "query_rows", 3 * 2: "kv_rows", 2: "head"}

WRAPPER = textwrap.TextWrapper(118, initial_indent="    ", subsequent_indent="     ", break_on_hyphens=False)


def main() -> int:
    """Write the header, or say that it differs."""
    header = render()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(header, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == header:
        return 0
    print("cpp/formats/tables.h differs from the Python tables. Run: python scripts/cpp_tables.py", file=sys.stderr)
    return 1


def render() -> str:
    """The header's text."""
    parts = [HEADER, *(f"inline constexpr int64_t {name} = {value};\n" for name, value in LIMITS.items())]
    parts += [
        texts("kModelTensors", (EMBEDDING, FINAL_NORM, OUTPUT_HEAD)),
        texts("kSizes", huggingface._SIZES),
        texts("kTokenIds", huggingface._TOKEN_IDS),
        table("GgmlType", "kGgmlTypes", map(dataclasses.astuple, GGML_TYPES.values())),
        table("SafetensorsType", "kSafetensorsTypes", sorted(safetensors_file._DTYPE_BYTES.items())),
        *gguf_tables(),
        *huggingface_tables(),
        *name_tables(),
        table("LayerTensor", "kLayerTensors", layer_tensors()),
        "}  // namespace gemcut::tables\n",
    ]
    return "\n".join(parts)


def gguf_tables() -> Iterable[str]:
    """What config/gguf.py knows."""
    rows = [
        (
            *(name, entry.model_type, traits(entry.traits), entry.period or 0, entry.default_window or 0),
            *(cap or 0.0 for cap in entry.default_caps),
            *(entry.narrow_scale_layers or 0, entry.local_theta or 0.0, entry.scales_local_rope),
        )
        for name, entry in gguf._ARCHITECTURES.items()
    ]
    yield table("Architecture", "kArchitectures", rows)
    yield texts("kGgufUsedKeys", sorted(gguf._USED_KEYS))
    yield texts("kGgufHarmlessKeys", sorted(gguf._HARMLESS_KEYS))
    yield neutral_values("kGgufNeutralValues", gguf._NEUTRAL_VALUES)


def huggingface_tables() -> Iterable[str]:
    """What config/huggingface.py knows."""
    rows = []
    for name, family in huggingface._FAMILIES.items():
        yield texts(f"kKeysOf_{name}", family.defaults)
        get = family.defaults.get
        rows.append(
            (
                *(name, family.architecture, sizes(family.sizes), sizes(family.token_ids), *family.activation_key),
                *(traits(family.traits), Code(f"kKeysOf_{name}"), family.defaults["tie_word_embeddings"]),
                *(get("sliding_window") or 0, get("attn_logit_softcapping") or 0.0),
                *(get("final_logit_softcapping") or 0.0, family.theta, family.local_theta or 0.0),
            )
        )
    yield table("Family", "kFamilies", rows)
    yield texts("kCommonKeys", sorted(huggingface._COMMON_KEYS))
    yield texts("kHarmlessKeys", sorted(huggingface._HARMLESS_KEYS))
    yield texts("kMultimodalKeys", sorted(huggingface._MULTIMODAL_KEYS))
    yield neutral_values("kNeutralValues", huggingface._NEUTRAL_VALUES)


def name_tables() -> Iterable[str]:
    """What checkpoint/names.py knows; for towers, the reason in the place of our name."""
    tables = {
        "kHfPrefixes": names._HF_PREFIXES,
        "kHfTowers": names._HF_TOWERS.items(),
        "kGgufGlobals": names._GGUF_GLOBALS.items(),
        "kGgufLayer": names._GGUF_LAYER.items(),
        "kGgufPlainNorms": names._GGUF_PLAIN_NORMS.items(),
        "kGgufPostNorms": names._GGUF_POST_NORMS.items(),
    }
    return (table("Rename", name, rows) for name, rows in tables.items())


def layer_tensors() -> Iterable[tuple[Any, ...]]:
    """One row for each tensor that a layer may have, in the order of the layer that has them all."""
    shapes = {
        switches: layer_shapes(layer_config(*switches))
        for switches in ((False, False), (True, False), (False, True), (True, True))
    }
    for name, shape in shapes[True, True].items():
        axes = [Code(f"Axis::{AXES[size]}") for size in shape]
        needs_qk_norm, needs_post_norms = name not in shapes[False, True], name not in shapes[True, False]
        yield name, axes[0], axes[1] if len(axes) > 1 else Code("Axis::none"), needs_qk_norm, needs_post_norms


def layer_config(qk_norm: bool, post_norms: bool) -> DecoderConfig:
    """A decoder with the sizes of SIZES."""
    return dataclasses.replace(PUBLISHED["gemma-2b"].config, **SIZES, qk_norm=qk_norm, post_norms=post_norms)


class Code(str):
    """C++ that is written as it is."""


def literal(value: Any) -> str:
    """A value as a C++ initialiser."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def table(row_type: str, name: str, rows: Iterable[Sequence[Any]]) -> str:
    """A constant array, one row after the other, in lines of at most 118 characters."""
    lines = []
    for row in rows:
        text = f"{{{', '.join(map(literal, row))}}},"
        lines += [line + "\n" for line in WRAPPER.wrap(text)]
    return f"inline constexpr {row_type} {name}[] = {{\n{''.join(lines)}}};\n"


def texts(name: str, values: Iterable[str]) -> str:
    """A constant array of texts."""
    lines = [f"    {literal(value)},\n" for value in values]
    return f"inline constexpr std::string_view {name}[] = {{\n{''.join(lines)}}};\n"


def sizes(values: Iterable[int | None]) -> Code:
    """Numbers in braces, -1 for None."""
    return Code("{" + ", ".join("-1" if value is None else str(value) for value in values) + "}")


def traits(fixed: dict[str, Any]) -> Code:
    """The fields that a family fixes; those it leaves alone as DecoderConfig has them."""
    defaults = {field.name: field.default for field in dataclasses.fields(DecoderConfig)} | fixed
    values = [literal(defaults[name]) for name in TRAITS[:-1]]
    return Code("{" + ", ".join([*values, f"Activation::{defaults[TRAITS[-1]]}"]) + "}")


def neutral_values(name: str, values: dict[str, tuple[Any, ...]]) -> str:
    """Each key with each of its neutral values."""
    return table("NeutralValue", name, ((key, *neutral(value)) for key, entry in values.items() for value in entry))


def neutral(value: Any) -> tuple[Any, ...]:
    """Kind, number and text of one neutral value."""
    if value is None:
        return Code("NeutralValue::Kind::null"), 0.0, ""
    if isinstance(value, str):
        return Code("NeutralValue::Kind::text"), 0.0, value
    if value == {}:
        return Code("NeutralValue::Kind::empty_object"), 0.0, ""
    return Code("NeutralValue::Kind::number"), float(value), str(value).lower()


if __name__ == "__main__":
    sys.exit(main())
