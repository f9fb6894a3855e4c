"""Get a model: references, what is already on this machine, the starter, licences."""

from gemcut.hub.cache import cache_folder
from gemcut.hub.references import COMMAND_NAMES, Reference, parse_reference, resolve
from gemcut.hub.starter import find_starter_parts, starter_path, verify_starter

__all__ = [
    "COMMAND_NAMES",
    "Reference",
    "cache_folder",
    "find_starter_parts",
    "parse_reference",
    "resolve",
    "starter_path",
    "verify_starter",
]
