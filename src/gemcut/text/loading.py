"""A tokenizer out of the files of a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gemcut.errors import NotFoundError, TokenizerError
from gemcut.files import read_bytes, read_json
from gemcut.text.tokenizer import Tokenizer
from gemcut.text.tokenizer_settings import TokenizerSettings, settings_from_config

_MODEL, _JSON, _CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
_ADDED, _SPECIAL = "added_tokens.json", "special_tokens_map.json"
_TEMPLATE, _TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
TOKENIZER_FILES = (_MODEL, _JSON, _CONFIG, _ADDED, _SPECIAL, _TEMPLATE, _TEMPLATE_JSON)
_MAX_MODEL_BYTES = 64 * 1024 * 1024  # the largest known, Gemma 3's, has 4.7 MB
_MAX_TEMPLATE_BYTES = 1024 * 1024


def load_tokenizer(source: str | Path | Iterable[str | Path]) -> Tokenizer:
    """The tokenizer in a checkpoint's folder, or in the files of one.

    `tokenizer.model` wins over `tokenizer.json`; settings come from `tokenizer_config.json`, `added_tokens.json`,
    `special_tokens_map.json` and `chat_template.jinja` where they are.

    Args:
        source: A folder, a tokenizer file (the files beside it count), or the files to use.

    Raises:
        NotFoundError: there is no such folder, or no tokenizer in it.
        TokenizerError: a file is damaged, of an unknown kind, or does not belong to the others.
    """
    files = _files(source)
    settings = _settings(files)
    if _MODEL in files:
        path = files[_MODEL]
        return Tokenizer.from_sentencepiece(
            read_bytes(path, _MAX_MODEL_BYTES, TokenizerError), where=path.name, settings=settings
        )
    if _JSON in files:
        return Tokenizer.from_json(_read_mapping(files[_JSON]), where=_JSON, settings=settings)
    where = source if isinstance(source, str | Path) else ", ".join(sorted(files))
    raise NotFoundError(
        f"{where}: holds no tokenizer, expected {_MODEL} or {_JSON}. Get the checkpoint's tokenizer files."
    )


def check_tokenizer_matches(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
    """Refuse a tokenizer whose text becomes ids that the model has no embedding for.

    More rows than pieces are usual (262,208 for 262,144), and so are control tokens of another modality above the rows.

    Args:
        tokenizer: The tokenizer.
        vocab_size: Rows of the embedding matrix.
        where: The tokenizer's file, for the message.

    Raises:
        TokenizerError: an id in use is `vocab_size` or more.
    """
    reserved = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    highest = max(tokenizer.max_text_token_id, *(token_id for token_id in reserved if token_id is not None), 0)
    if highest >= vocab_size:
        raise TokenizerError(
            f"{where}: uses token ids up to {highest}, but the embedding has {vocab_size} rows. "
            "Use the tokenizer that came with these weights."
        )


def _files(source: str | Path | Iterable[str | Path]) -> dict[str, Path]:
    """The known files by name."""
    known = TOKENIZER_FILES
    if not isinstance(source, str | Path):
        given = [Path(file) for file in source]
        return {path.name: path for path in given if path.name in known}
    path = Path(source)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder. Check the path.")
    folder = path if path.is_dir() else path.parent
    found = {name: folder / name for name in known if (folder / name).is_file()}
    if path.is_file():
        # A file that was named is the vocabulary, whatever else lies beside it and whatever it is called.
        found = {name: file for name, file in found.items() if name not in (_MODEL, _JSON)}
        found[_JSON if path.suffix == ".json" else _MODEL] = path
    return found


def _settings(files: Mapping[str, Path]) -> TokenizerSettings:
    """The settings in the files beside the vocabulary."""
    config: dict[str, Any] = {}
    if _SPECIAL in files:
        config |= _read_mapping(files[_SPECIAL])
    if _CONFIG in files:
        config |= {key: value for key, value in _read_mapping(files[_CONFIG]).items() if value is not None}
    if _ADDED in files and not config.get("added_tokens_decoder"):
        added = _read_mapping(files[_ADDED])
        config["added_tokens_decoder"] = {number: piece for piece, number in added.items()}
    settings = settings_from_config(config, files[_CONFIG].name if _CONFIG in files else _ADDED)
    if _TEMPLATE in files:
        data = read_bytes(files[_TEMPLATE], _MAX_TEMPLATE_BYTES, TokenizerError)
        try:
            settings = dataclasses.replace(settings, chat_template=data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise TokenizerError(f"{_TEMPLATE}: is not UTF-8 text ({error}). Fetch the file again.") from None
    elif _TEMPLATE_JSON in files and settings.chat_template is None:
        template = settings_from_config(_read_mapping(files[_TEMPLATE_JSON]), _TEMPLATE_JSON).chat_template
        settings = dataclasses.replace(settings, chat_template=template)
    return settings


def _read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    data = read_json(path, error=TokenizerError)
    if not isinstance(data, dict):
        raise TokenizerError(f"{path.name}: holds a {type(data).__name__}, expected a JSON object. Fetch it again.")
    return data
