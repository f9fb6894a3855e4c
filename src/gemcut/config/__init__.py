"""Model configuration: one frozen dataclass, its file forms, and the table of published sizes."""

from gemcut.config.decoder import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters
from gemcut.config.gguf import config_from_gguf, config_to_gguf
from gemcut.config.huggingface import config_from_hf, config_to_hf
from gemcut.config.published import PUBLISHED, Licence, PublishedModel, close_names, published, same_decoder

__all__ = [
    "FULL_ATTENTION",
    "PUBLISHED",
    "SLIDING_ATTENTION",
    "DecoderConfig",
    "Licence",
    "PublishedModel",
    "RopeParameters",
    "close_names",
    "config_from_gguf",
    "config_from_hf",
    "config_to_gguf",
    "config_to_hf",
    "published",
    "same_decoder",
]
