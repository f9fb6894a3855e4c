"""Number formats of stored weights: what each ggml type is, and its exact values as float32."""

from gemcut.quantize.dequantize import READABLE_TYPES, dequantize, dequantize_into
from gemcut.quantize.ggml_types import GGML_TYPES, GGMLType, type_named

__all__ = ["GGML_TYPES", "READABLE_TYPES", "GGMLType", "dequantize", "dequantize_into", "type_named"]
