"""The small tokenizers that the text tests share, in each of the three file forms."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from gemcut.text import Tokenizer

DATA = Path(__file__).parent / "data"
TINY = {"tiny-gemma": "gemma", "tiny-llama": "llama"}
ALPHABETS = (
    "abc XYZ", "the ", "\n\t  ", "\n", "0123456789.,", "äöüßéèñ", "привет мир", "漢字 你好世界", "한국어", "العربية",
    "हिन्दी", "😀👩\u200d👩🇩🇪", "<>[]/|_", "\u200b\u00a0\ufeff\x00\x7f\u0300\r", "𝒳𐍈🫠",
)  # fmt: skip


def _processor(name: str) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=(DATA / f"{name}.model").read_bytes())


def _user_defined(name: str) -> list[str]:
    """User-defined pieces of a tiny model, from the script that made it: the library does not tell them."""
    if name != "tiny-gemma":
        return []
    spec = importlib.util.spec_from_file_location("make_tiny_models", DATA / "make_tiny_models.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.MARKERS + script.TAGS + script.RUNS


def make_gguf(name: str) -> dict[str, Any]:
    """GGUF metadata of a tiny model, as llama.cpp's converter writes it."""
    sp, user_defined = _processor(name), set(_user_defined(name))
    tokens, types = [], []
    for token_id in range(len(sp)):
        piece = sp.id_to_piece(token_id)
        looks_special = piece in ("<mask>",) or piece.startswith(("<unused", "<start_of", "<end_of"))
        if sp.is_byte(token_id):
            kind = 6
        elif sp.is_control(token_id) or (piece in user_defined and looks_special):
            kind = 3
        elif sp.is_unknown(token_id):
            kind = 3 if name == "tiny-gemma" else 2
        else:
            kind = 4 if piece in user_defined else 1
        tokens.append(piece.replace("\u2581", " ") if kind == 4 else piece)
        types.append(kind)
    gemma = name == "tiny-gemma"
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-1000.0 if types[i] in (3, 4) and gemma else sp.get_score(i) for i in range(len(sp))],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": sp.bos_id(),
        "tokenizer.ggml.eos_token_id": sp.eos_id(),
        "tokenizer.ggml.unknown_token_id": sp.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": not gemma,
    } | ({"tokenizer.ggml.padding_token_id": 0} if gemma else {})


def make_json(name: str) -> dict[str, Any]:
    """A tokenizer.json of a tiny model, as transformers' converter writes it."""
    sp, user_defined = _processor(name), set(_user_defined(name))
    vocab = {sp.id_to_piece(i): i for i in range(len(sp))}
    merges = []
    for piece, token_id in vocab.items():
        for cut in range(1, len(piece)):
            pair = (piece[:cut], piece[cut:])
            if pair[0] in vocab and pair[1] in vocab and not sp.is_byte(token_id):
                merges.append((-sp.get_score(token_id), token_id, vocab[pair[0]], list(pair)))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace]}
    special = [i for i in range(len(sp)) if sp.is_control(i) or sp.is_unknown(i)]
    bos = sp.id_to_piece(sp.bos_id())
    return {
        "added_tokens": [{"id": i, "content": sp.id_to_piece(i), "special": True} for i in special]
        + [{"id": vocab[p], "content": p, "special": p.endswith("_of_turn>")} for p in user_defined if p[0] != "\t"],
        "normalizer": replace if name == "tiny-gemma" else prepend,
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": bos, "type_id": 0}}]},
        "model": {
            "type": "BPE",
            "unk_token": sp.id_to_piece(sp.unk_id()),
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [pair for *_, pair in sorted(merges, key=lambda merge: merge[:3])],
        },
    }


@pytest.fixture(scope="session")
def make_metadata() -> Callable[[str], dict[str, Any]]:
    return make_gguf


@pytest.fixture(scope="session")
def make_tokenizer_json() -> Callable[[str], dict[str, Any]]:
    return make_json


@pytest.fixture(scope="session")
def model_bytes() -> Callable[[str], bytes]:
    return lambda name: (DATA / f"{name}.model").read_bytes()


@pytest.fixture(scope="session")
def original() -> Callable[[str], sentencepiece.SentencePieceProcessor]:
    """SentencePiece itself on a tiny model."""
    return _processor


@pytest.fixture(scope="session")
def tokenizers() -> dict[tuple[str, str], Tokenizer]:
    """Each tiny tokenizer out of each file form, by (name, form)."""
    made = {}
    for name in TINY:
        made[name, "model"] = Tokenizer.from_sentencepiece((DATA / f"{name}.model").read_bytes(), where=f"{name}.model")
        made[name, "gguf"] = Tokenizer.from_gguf(make_gguf(name), where=f"{name}.gguf")
        made[name, "json"] = Tokenizer.from_json(make_json(name), where="tokenizer.json")
    return made


@pytest.fixture(scope="session")
def gemma(tokenizers: dict[tuple[str, str], Tokenizer]) -> Tokenizer:
    return tokenizers["tiny-gemma", "model"]


@pytest.fixture(scope="session")
def llama(tokenizers: dict[tuple[str, str], Tokenizer]) -> Tokenizer:
    return tokenizers["tiny-llama", "model"]


@pytest.fixture(scope="session")
def random_texts() -> Callable[[int, int], list[str]]:
    """Seeded texts of many scripts and much white space."""

    def make(count: int, seed: int) -> list[str]:
        rng = random.Random(seed)
        texts = ["", " ", "  ", "\n", " a", "a ", "\u00e9", "e\u0301"]
        while len(texts) < count:
            characters = [rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randrange(1, 40))]
            for _ in range(rng.randrange(3)):
                characters.insert(rng.randrange(len(characters)), rng.choice(" \n\t") * rng.randrange(1, 40))
            texts.append("".join(characters))
        return texts

    return make


@pytest.fixture(scope="session")
def unpacked(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the real tokenizer files of a family, unpacked once."""
    root = tmp_path_factory.mktemp("tokenizers")

    def unpack(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            folder.mkdir()
            for packed in sorted((shared_folder / "assets" / "tokenizers" / name).glob("*.gz")):
                (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        return folder

    return unpack


@pytest.fixture(scope="session")
def real_texts(shared_folder: Path) -> list[str]:
    """Texts of the data sets beside the checkout."""
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict | list):
            for entry in value.values() if isinstance(value, dict) else value:
                collect(entry)

    for path in sorted((shared_folder / "datasets").glob("*/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for _, line in zip(range(60), file, strict=False):
                collect(json.loads(line))
    return texts
