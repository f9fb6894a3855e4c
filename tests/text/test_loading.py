"""Tokenizers out of folders and files."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gemcut.errors import NotFoundError, TokenizerError
from gemcut.text import Tokenizer, check_tokenizer_matches, load_tokenizer


@pytest.fixture
def folder(tmp_path, model_bytes, make_tokenizer_json):
    (tmp_path / "tokenizer.model").write_bytes(model_bytes("tiny-gemma"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(make_tokenizer_json("tiny-gemma")), encoding="utf-8")
    return tmp_path


def _write(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def test_a_folder_gives_its_tokenizer(folder, gemma):
    assert load_tokenizer(folder).digest() == gemma.digest()
    assert load_tokenizer(str(folder)).digest() == gemma.digest()


def test_tokenizer_model_wins(folder, gemma):
    _write(folder, "tokenizer.json", "not JSON")
    assert load_tokenizer(folder).digest() == gemma.digest()


def test_tokenizer_json_is_enough(folder, gemma):
    (folder / "tokenizer.model").unlink()
    assert load_tokenizer(folder).digest() == gemma.digest()


def test_one_file_or_several_can_be_named(folder, gemma):
    (folder / "tokenizer.model").rename(folder / "vocabulary.spm")
    for source in (folder / "vocabulary.spm", folder / "tokenizer.json", [folder / "tokenizer.json"]):
        assert load_tokenizer(source).digest() == gemma.digest()


def test_settings_come_from_the_files_beside(folder):
    _write(folder, "special_tokens_map.json", {"eos_token": "<end_of_turn>", "bos_token": "<eos>"})
    _write(folder, "tokenizer_config.json", {"add_bos_token": False, "bos_token": "<bos>", "chat_template": "config"})
    _write(folder, "added_tokens.json", {"<image_soft_token>": 700})
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (2, tokenizer.id_of("<end_of_turn>"))
    assert not tokenizer.add_bos
    assert tokenizer.special_tokens["<image_soft_token>"] == 700
    assert tokenizer.chat_template == "config"


def test_a_template_file_goes_before_the_config(folder):
    _write(folder, "chat_template.json", {"chat_template": "json"})
    assert load_tokenizer(folder).chat_template == "json"
    _write(folder, "tokenizer_config.json", {"chat_template": "config"})
    assert load_tokenizer(folder).chat_template == "config"
    _write(folder, "chat_template.jinja", "file")
    assert load_tokenizer(folder).chat_template == "file"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "tokenizer.model",
            b"<html>not found</html>",
            r"tokenizer\.model: 22 bytes that are not a whole SentencePiece",
        ),
        ("tokenizer.json", b"<html>", r"tokenizer\.json: is not valid JSON"),
        ("tokenizer.json", b"[1, 2]", r"tokenizer\.json: holds a list, expected a JSON object"),
        ("tokenizer_config.json", b"{", r"tokenizer_config\.json: is not valid JSON"),
        ("chat_template.jinja", b"\xff\xfe", r"chat_template\.jinja: is not UTF-8 text"),
    ],
    ids=["model garbage", "json garbage", "json list", "config garbage", "template garbage"],
)
def test_a_damaged_file_is_a_named_error(name, content, message, folder):
    if name == "tokenizer.json":
        (folder / "tokenizer.model").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(folder)


def test_a_truncated_model_is_a_named_error(folder):
    path = folder / "tokenizer.model"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: 5000 bytes that are not a whole SentencePiece model"):
        load_tokenizer(folder)


def test_a_missing_tokenizer_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"holds no tokenizer, expected tokenizer\.model or tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(NotFoundError, match="nowhere: no such file or folder"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_tokenizer_must_fit_the_embedding(gemma, model_bytes):
    check_tokenizer_matches(gemma, 700, "tokenizer.model")
    check_tokenizer_matches(gemma, 768, "tokenizer.model")
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: uses token ids up to 699, but the embedding has 512"):
        check_tokenizer_matches(gemma, 512, "tokenizer.model")


def test_control_tokens_above_the_embedding_are_allowed(folder):
    _write(folder, "added_tokens.json", {"<image_soft_token>": 700})
    check_tokenizer_matches(load_tokenizer(folder), 700, "x")


def test_text_imports_no_framework():
    code = (
        "import sys, gemcut.text; "
        "print(sorted({'keras', 'jax', 'torch', 'tensorflow', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_there():
    assert Tokenizer.__module__ == "gemcut.text.tokenizer"
    import gemcut.text

    assert all(hasattr(gemcut.text, name) for name in gemcut.text.__all__)
