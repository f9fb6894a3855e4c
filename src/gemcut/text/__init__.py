"""Text and token ids: tokenizers of every file form, chat templates, and decoding as tokens come."""

from gemcut.text.builtin_templates import builtin_template
from gemcut.text.chat_template import ChatTemplate, chat_template_for
from gemcut.text.detokenizer import IncrementalDetokenizer
from gemcut.text.folder_files import tokenizer_files
from gemcut.text.gguf_keys import tokenizer_from_keys, tokenizer_to_gguf
from gemcut.text.loading import TOKENIZER_FILES, check_tokenizer_matches, load_tokenizer
from gemcut.text.special_tokens import stop_token_ids
from gemcut.text.tokenizer import Tokenizer
from gemcut.text.tokenizer_settings import TokenizerSettings

__all__ = [
    "TOKENIZER_FILES",
    "ChatTemplate",
    "IncrementalDetokenizer",
    "Tokenizer",
    "TokenizerSettings",
    "builtin_template",
    "chat_template_for",
    "check_tokenizer_matches",
    "load_tokenizer",
    "stop_token_ids",
    "tokenizer_files",
    "tokenizer_from_keys",
    "tokenizer_to_gguf",
]
