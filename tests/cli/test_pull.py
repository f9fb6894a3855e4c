"""`gemcut pull` and `--pull` print where a model is, and progress on standard error."""

import json

import pytest

from gemcut.errors import DownloadError


@pytest.fixture
def pulled(monkeypatch, tmp_path):
    """Replaces the library's `pull`; the list of its calls."""
    calls = []

    def fake(reference, *, revision, files, progress):
        calls.append((reference, revision, files))
        for done in (0, 512, 2048, 2048):
            if progress:
                progress("model.safetensors", done, 2048)
        return tmp_path / "model"

    monkeypatch.setattr("gemcut.hub.pull", fake)
    return calls


def test_path_is_the_answer_and_files_are_told(invoke, pulled, tmp_path):
    result = invoke("pull", "hf:a/b", "--revision", "v1", "--include", "*.json", "--include", "*.model")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'model'}\n")
    assert result.stderr == "model.safetensors  2 KiB\n"
    assert pulled == [("hf:a/b", "v1", ["*.json", "*.model"])]


def test_json_and_quiet(invoke, pulled, tmp_path):
    result = invoke("pull", "hf:a/b", "--json", "--quiet")
    assert json.loads(result.stdout) == {"reference": "hf:a/b", "path": str(tmp_path / "model")}
    assert result.stderr == ""


def test_terminal_gets_bars(invoke, pulled, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "model.safetensors" in invoke("pull", "hf:a/b").stderr


def test_interrupted_pull_says_how_to_go_on(invoke, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gemcut.hub.pull", interrupted)
    result = invoke("pull", "hf:a/b")
    assert result.exit_code == 75
    assert "Interrupted. What came is kept; go on with: gemcut pull hf:a/b" in result.stderr


def test_failed_download_ends_with_1(invoke, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise DownloadError("hf:a/b: the Hub answered 500.")

    monkeypatch.setattr("gemcut.hub.pull", fail)
    result = invoke("pull", "hf:a/b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "hf:a/b: the Hub answered 500." in result.stderr


@pytest.mark.parametrize("command", [("run", "hf:a/b", "Hello"), ("chat", "hf:a/b")], ids=["run", "chat"])
def test_pull_flag_downloads_only_what_is_missing(invoke, pulled, fake, monkeypatch, tmp_path, command):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert invoke(*command, "--pull", stdin="").exit_code in (0, 4)
    assert pulled == [("hf:a/b", None, None)]
    (tmp_path / "models--a--b" / "snapshots" / "0").mkdir(parents=True)
    (tmp_path / "models--a--b" / "refs").mkdir()
    (tmp_path / "models--a--b" / "refs" / "main").write_text("0")
    assert invoke(*command, "--pull", stdin="").exit_code == 0
    assert len(pulled) == 1
