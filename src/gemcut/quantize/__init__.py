"""Number formats of stored weights: what each ggml type is, its exact values as float32, and weights put into it."""

from gemcut.quantize.dequantize import READABLE_TYPES, dequantize, dequantize_into
from gemcut.quantize.encode import WRITABLE_TYPES, quantize
from gemcut.quantize.ggml_types import GGML_TYPES, GGMLType, type_named

__all__ = [
    "GGML_TYPES",
    "READABLE_TYPES",
    "WRITABLE_TYPES",
    "GGMLType",
    "dequantize",
    "dequantize_into",
    "quantize",
    "type_named",
]
