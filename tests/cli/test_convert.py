"""`gemcut convert` passes its flags on, and prints what was done."""

import json

import pytest

from gemcut.checkpoint import open_checkpoint
from gemcut.cli.convert import parse_size
from gemcut.errors import UsageError


@pytest.fixture
def source(write_tiny_model, tmp_path):
    return write_tiny_model(tmp_path / "source")


def test_report_is_printed(invoke, source, tmp_path):
    result = invoke("convert", str(source), str(tmp_path / "m.gguf"), "--to", "gguf", "--type", "bf16")
    assert (result.exit_code, result.stderr) == (0, "")
    for part in ("m.gguf", "hf to gguf", "29 in, 29 out, 0 unused", "F32 to BF16", "sha256 ", "licence", "not known"):
        assert part in result.stdout
    assert open_checkpoint(tmp_path / "m.gguf").format == "gguf"


def test_json_is_the_librarys_report(invoke, source, tmp_path):
    result = invoke("convert", str(source), str(tmp_path / "out"), "--to", "hf", "--shard-size", "50KB", "--json")
    report = json.loads(result.stdout)
    assert (report["format"], report["tensors_out"], report["dry_run"]) == ("hf", 29, False)
    assert sum(file["name"].startswith("model-") for file in report["files"]) > 1
    assert all(len(file["sha256"]) == 64 for file in report["files"])


def test_losses_and_notes_are_printed(invoke, source, tmp_path):
    (source / "tokenizer.model").unlink()
    result = invoke("convert", str(source), str(tmp_path / "out"), "--for", "ollama", "--type", "F16")
    assert "for ollama" in result.stdout
    assert "The source has no tokenizer" in result.stdout
    assert f"ollama create NAME -f {tmp_path / 'out'}/Modelfile" in result.stdout


def test_dry_run_writes_nothing_and_quiet_prints_nothing(invoke, source, tmp_path):
    result = invoke("convert", str(source), str(tmp_path / "out"), "--to", "hf", "--dry-run")
    assert "(nothing written: --dry-run)" in result.stdout
    assert not (tmp_path / "out").exists()
    assert invoke("convert", str(source), str(tmp_path / "out"), "--to", "hf", "--quiet").stdout == ""
    again = invoke("convert", str(source), str(tmp_path / "out"), "--to", "hf", "--quiet")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert invoke("convert", str(source), str(tmp_path / "out"), "--to", "hf", "--overwrite").exit_code == 0


def test_target_size_chooses_types(invoke, source, tmp_path):
    target = tmp_path / "m.gguf"
    result = invoke("convert", str(source), str(target), "--to", "gguf", "--target-size", "200KB")
    assert "loses least within 200,000 bytes" in result.stdout
    assert 0.8 * 200_000 < target.stat().st_size <= 200_000
    both = invoke("convert", str(source), str(target), "--to", "gguf", "--target-size", "200KB", "--type", "Q8_0")
    assert (both.exit_code, "target_bytes is 200000 with type Q8_0" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2**31), ("1.5kb", 1500), ("12", 12), ("3KiB", 3072)],
)
def test_sizes(text, size):
    assert parse_size(text, "--shard-size") == size
    assert parse_size(None, "--shard-size") is None


@pytest.mark.parametrize("text", ["", "big", "-5GB", "5XB", "0GB", "GB"])
def test_wrong_sizes_are_named(text):
    with pytest.raises(UsageError, match=r"--target-size is '.*', expected a size such as 5GB, 500MB or 2GiB"):
        parse_size(text, "--target-size")
