"""Where JSON answers may have white space."""

from __future__ import annotations

from typing import Any

# What stands between items and after keys, as patterns. There is nothing that allows more than one space, or white
# space next to a bracket: a model that is not sure what to write goes on with it for ever (vllm-project/vllm#40080).
SPACING = {"none": (",", ":"), "one": (", ", ": "), "optional": (", ?", ": ?")}


def json_options(spacing: str = "optional", *, is_lenient: bool = False) -> dict[str, Any]:
    """Options of llguidance's grammar of JSON, which a schema can also hold under "x-guidance".

    Args:
        spacing: One of `SPACING`.
        is_lenient: Leave out of the grammar what of a schema it cannot express.
    """
    item_separator, key_separator = SPACING[spacing]
    options = {"item_separator": item_separator, "key_separator": key_separator, "whitespace_flexible": False}
    return options | ({"lenient": True} if is_lenient else {})
