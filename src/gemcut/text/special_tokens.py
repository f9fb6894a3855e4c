"""Which pieces are control tokens, and which of them end an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gemcut.errors import ConfigError

if TYPE_CHECKING:
    from gemcut.text.tokenizer import Tokenizer

_MARKER = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_HTML_TAG = re.compile(
    r"</?(a|b|bbox|blockquote|body|caption|code|div|em|footer|h[1-6]|html|i|iframe|img|li|s|span|strong|sub|sup"
    r"|table|tbody|td|tfoot|th|thead|tr|u|ul)>"
)
# The vocabulary's own end of text, the end of a turn, and FunctionGemma's hand-over to the tool it called.
_END_PIECES = ("<eos>", "</s>", "<end_of_turn>", "<turn|>", "<start_function_response>")


def is_marker(piece: str) -> bool:
    """Whether a user-defined piece is a control token and not text.

    SentencePiece knows Gemma's turn markers only as user-defined pieces, which it finds in any text, like its runs of
    spaces and its HTML tags. The rule that parts them: one pair of angle or square brackets around something without
    a space is a marker (`<start_of_turn>`, `<unused7>`, `<|tool>`, `[multimodal]`), unless it is one of the HTML tags
    that Gemma's vocabularies hold (`<table>`, `</h1>`); everything else is text.

    Source: user-defined pieces of the Gemma 1, 3 and 4 tokenizer.model files.
    """
    return _MARKER.fullmatch(piece) is not None and _HTML_TAG.fullmatch(piece) is None


def stop_token_ids(tokenizer: Tokenizer, generation_config: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """Ids that end an answer, ascending.

    The union of the tokenizer's end of text, `eos_token_id` of the model's own generation_config.json (a number or a
    list), and the family's end pieces, found by their text because their ids differ (`<end_of_turn>` is 107 in
    Gemma 1 and 2, 106 in Gemma 3).

    Raises:
        ConfigError: `eos_token_id` is neither.
    """
    special = tokenizer.special_tokens
    ids = {special[piece] for piece in _END_PIECES if piece in special}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    listed = (generation_config or {}).get("eos_token_id")
    listed = [] if listed is None else listed if isinstance(listed, list) else [listed]
    if not all(isinstance(token_id, int) for token_id in listed):
        raise ConfigError(f"generation_config: eos_token_id is {listed}, expected a token id or a list of them.")
    ids.update(listed)
    return tuple(sorted(ids))
