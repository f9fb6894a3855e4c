"""`gemcut check-licence` prints each duty, and its exit code says whether all are met."""

import json

import pytest

from gemcut.config.published import APACHE_2
from gemcut.hub import write_duties


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "README.md").write_text("---\nbase_model: mistralai/Mistral-7B-v0.1\n---\n")
    return path


def test_missing_items_end_with_1_and_say_what_to_do(invoke, folder):
    result = invoke("check-licence", str(folder))
    assert result.exit_code == 1
    for part in (
        "licence                      Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0\n",
        "kind                         open source\n",
        "allowed                      any use; passing on takes a copy",
        "ok      licence known",
        "MISSING copy of the licence  Save https://www.apache.org/licenses/LICENSE-2.0 beside it as LICENSE;",
        "MISSING record of changes    State in MODIFICATIONS.md what was changed, by whom and when.",
    ):
        assert part in result.stdout


def test_complete_model_ends_with_0(invoke, folder):
    write_duties(folder, APACHE_2, base="mistralai/Mistral-7B-v0.1", modifications=["merged"])
    result = invoke("check-licence", str(folder))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "MISSING" not in result.stdout
    report = json.loads(invoke("check-licence", str(folder), "--json").stdout)
    assert report["complete"]


@pytest.mark.parametrize(
    ("card", "line"),
    [
        pytest.param("", "licence                not known", id="unknown"),
        pytest.param("---\nlicense: mit\n---\n", "licence                mit", id="another"),
    ],
)
def test_licence_that_is_not_known_is_not_guessed(invoke, folder, card, line):
    (folder / "README.md").write_text(card)
    result = invoke("check-licence", str(folder))
    assert result.exit_code == 1
    assert line in result.stdout


def test_unreadable_file_ends_with_3_and_missing_one_with_4(invoke, folder):
    (folder / "model.gguf").write_bytes(b"GGUF\x03")
    assert invoke("check-licence", str(folder / "model.gguf")).exit_code == 3
    assert invoke("check-licence", str(folder / "other.gguf")).exit_code == 4
