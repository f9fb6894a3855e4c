"""The C++ engine's face: its checkpoints, its tokenizer and its language model. Needs no deep-learning framework."""

from gemcut.engine.checkpoint import NativeCheckpoint
from gemcut.engine.extension import engine_facts, is_built, native
from gemcut.engine.language_model import NativeLanguageModel
from gemcut.engine.tokenizer import NativeTokenizer

__all__ = ["NativeCheckpoint", "NativeLanguageModel", "NativeTokenizer", "engine_facts", "is_built", "native"]
