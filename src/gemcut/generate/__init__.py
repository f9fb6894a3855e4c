"""Text from a model: loading, decoding loop, streaming, chat."""

from gemcut.generate.load import load
from gemcut.generate.text_model import Score, TextModel

__all__ = ["Score", "TextModel", "load"]
