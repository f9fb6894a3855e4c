"""`check_licence` joins what files say with what a licence asks for."""

import json

import pytest

from gemcut.config.published import APACHE_2, Licence
from gemcut.errors import CheckpointError, NotFoundError
from gemcut.hub import write_duties
from gemcut.inspect import check_licence
from gemcut.inspect.licence import licence_facts


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE", "GEMCUT_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_complete_folder(caches):
    folder = caches / "out"
    folder.mkdir()
    (folder / "README.md").write_text("---\nbase_model: mistralai/Mistral-7B-v0.1\n---\n")
    assert not check_licence(folder)["complete"]
    write_duties(folder, APACHE_2, base="mistralai/Mistral-7B-v0.1", modifications=["merged"])
    report = check_licence(folder)
    assert report["complete"]
    assert report["base"] == "mistralai/Mistral-7B-v0.1"
    assert report["licence"]["openness"] == "open source"
    assert [duty["name"] for duty in report["duties"]] == ["licence known", "copy of the licence", "record of changes"]
    json.dumps(report)


def test_keys_of_a_gguf_file_and_of_the_one_in_a_folder(starter_path, caches):
    (caches / "model.gguf").symlink_to(starter_path)
    for path in (caches / "model.gguf", caches):
        report = check_licence(path)
        assert report["licence"]["name"] == "Gemma Terms of Use"
        assert report["evidence"] == ["general.license: gemma"]
        assert [duty["name"] for duty in report["duties"] if not duty["met"]] == [
            "notice",
            "copy of the licence",
            "use restrictions told",
            "record of changes",
        ]


def test_unknown_licence_has_no_facts_but_its_name():
    assert licence_facts(None) is None
    assert licence_facts(Licence("mit", "")) == {"name": "mit", "url": "", "openness": None, "allowed": None}


def test_path_that_is_not_there_is_not_found(caches):
    with pytest.raises(NotFoundError, match="no such file or folder"):
        check_licence(caches / "nothing")


def test_damaged_and_unreadable_files_are_named(caches, monkeypatch):
    (caches / "model.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(CheckpointError, match="model.gguf"):
        check_licence(caches / "model.gguf")

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gemcut.inspect.licence.open", fail, raising=False)
    with pytest.raises(
        CheckpointError, match=r"model.gguf: cannot be read \(Permission denied\). Check its permissions"
    ):
        check_licence(caches / "model.gguf")


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_what_convert_makes_is_complete(caches, write_tiny_model, to):
    from gemcut.checkpoint import convert

    source = write_tiny_model(caches / "source")
    (source / "README.md").write_text("---\nbase_model: mistralai/Mistral-7B-v0.1\n---\n")
    target = caches / ("made" if to == "hf" else "made.gguf")
    convert(source, target, to=to, type="F16")
    report = check_licence(target)
    assert [duty["detail"] for duty in report["duties"] if not duty["met"]] == []
    assert report["base"] == "mistralai/Mistral-7B-v0.1"
