"""Bad input as a user meets it: a named error and its exit code, nothing on standard output, no traceback."""

from __future__ import annotations

import json
import struct
import sys

import gguf
import numpy as np
import pytest

from gemcut.cli import main
from gemcut.config import config_from_hf, config_to_gguf
from gemcut.config.parameters import parameter_shapes

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(write_tiny_model, tmp_path):
    return write_tiny_model(tmp_path / "model")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """`gemcut run ...` in this process: exit code and standard error; standard output must stay empty."""

    def command(*arguments):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["gemcut", "run", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert "fault of Gemcut" not in printed.err
        assert sorted(tmp_path.rglob("*")) == before  # nothing half-written
        return left.value.code, printed.err

    return command


# --- safetensors -----------------------------------------------------------------------------------------------------


def change_header(folder, change):
    """Rewrite the header of the weights with `change(header)` applied; the data stay."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + size :])


def first_two(header):
    return sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])[
        :2
    ]


def cut_safetensors(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_safetensors_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:60])


def long_safetensors(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 64)


def huge_safetensors_header(folder):
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def overlapping_safetensors(folder):
    def change(header):
        first, second = first_two(header)
        begin, end = header[second]["data_offsets"]
        header[second]["data_offsets"] = [begin - 4, end - 4]

    change_header(folder, change)


def mistyped_safetensors(folder):
    change_header(folder, lambda header: header[first_two(header)[0]].update(dtype="I32"))


def huge_safetensors_shape(folder):
    change_header(folder, lambda header: header[first_two(header)[0]].update(shape=[2**40, 2**40]))


def safetensors_of_something_else(folder):
    (folder / "model.safetensors").write_bytes(b"<html>404 not found</html>" * 9)


# --- the whole of a checkpoint ---------------------------------------------------------------------------------------


def wrong_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))


def unknown_config_key(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_experts": 8}))


def broken_config(folder):
    (folder / "config.json").write_text('{"model_type": "gemma3_text",')


def no_config(folder):
    (folder / "config.json").unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def missing_tensor(folder):
    """The last one in the file, so that no gap stays."""
    path = folder / "model.safetensors"
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    begin, end = header[last]["data_offsets"]
    path.write_bytes(path.read_bytes()[: begin - end])
    change_header(folder, lambda header: header.pop(last))


def missing_shard(folder):
    path = folder / "model.safetensors"
    size = int.from_bytes(path.read_bytes()[:8], "little")
    names = [name for name in json.loads(path.read_bytes()[8 : 8 + size]) if name != "__metadata__"]
    path.rename(folder / SHARDS[0])
    weight_map = {name: SHARDS[index % 2] for index, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def no_tokenizer(folder):
    (folder / "tokenizer.model").unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer.model").write_bytes(b"\x0a\xff\xff\xff\xff\x0f")


def template_that_is_no_template(folder):
    (folder / "chat_template.jinja").write_text("{% for message in messages %}")


HF_CASES = [
    (
        cut_safetensors,
        3,
        "model.safetensors: its tensors need 259456 bytes, the file has 259356. The file is cut short",
    ),
    (cut_safetensors_header, 3, "bytes, the file has 60. The file is cut short"),
    (long_safetensors, 3, "its tensors need 259456 bytes, the file has 259520. The rest belongs to no tensor"),
    (huge_safetensors_header, 3, "claims a header of 4611686018427387904 bytes, expected at most 100000000"),
    (overlapping_safetensors, 3, 'and overlaps "lm_head.weight", which ends at 90112. The file is damaged'),
    (mistyped_safetensors, 3, '"lm_head.weight" is stored as I32, expected one of BF16, F16, F32'),
    (huge_safetensors_shape, 3, '"lm_head.weight" holds 90112 bytes, expected 4835703278458516698824704 for F32'),
    (safetensors_of_something_else, 3, "This is not a safetensors file, or it is damaged"),
    (wrong_config, 3, "is (48, 32), expected (64, 32) = (intermediate_size, hidden_size). Pass the config that came"),
    (unknown_config_key, 3, "key 'num_experts' (= 8) is not known for model_type 'gemma3_text'"),
    (broken_config, 3, "config.json: is not valid JSON"),
    (no_config, 4, "config.json: no such file, expected the configuration of model.safetensors"),
    (no_weights, 4, "holds no weights, expected model.safetensors"),
    (missing_tensor, 3, "1 of 29 tensors are missing, the first is model.norm.weight"),
    (missing_shard, 4, f"{SHARDS[1]}: no such file. Check the path, or get the missing file"),
    (no_tokenizer, 4, "holds no tokenizer, expected tokenizer.model or tokenizer.json"),
    (broken_tokenizer, 3, "tokenizer.model: 6 bytes that are not a whole SentencePiece model"),
    (template_that_is_no_template, 3, "chat template: line 1 is not valid Jinja (Unexpected end of template"),
]


@pytest.mark.parametrize(("damage", "code", "message"), HF_CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_folder(folder, run, damage, code, message):
    damage(folder)
    found, error = run(folder, "hi")
    assert (found, message in error) == (code, True), error


# --- GGUF ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gguf_file(folder, tmp_path):
    """The weights of the tiny model as a GGUF file, without its tokenizer."""
    config = config_from_hf(json.loads((folder / "config.json").read_text()), "config.json")
    path = tmp_path / "model.gguf"
    metadata = config_to_gguf(config)
    writer = gguf.GGUFWriter(path, metadata.pop("general.architecture"))
    for key, value in metadata.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}.get(type(value))
        add(key, value) if add else writer.add_array(key, value)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, shape in parameter_shapes(config).items():
        writer.add_tensor(table.get_name(name, try_suffixes=(".weight",)), np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


NORM = b"output_norm.weight"  # one dimension: after the name come its count (4 bytes), size (8), type (4), offset (8)


def after_name(path, name=NORM):
    data = path.read_bytes()
    return data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)


def patched(path, place, content):
    data = bytearray(path.read_bytes())
    data[place : place + len(content)] = content
    path.write_bytes(data)


def cut_gguf(path):
    path.write_bytes(path.read_bytes()[:-64])


def cut_gguf_header(path):
    path.write_bytes(path.read_bytes()[:30])


def huge_gguf_tensor_count(path):
    patched(path, 8, struct.pack("<Q", 2**60))


def huge_gguf_metadata_count(path):
    patched(path, 16, struct.pack("<Q", 2**60))


def huge_gguf_shape(path):
    patched(path, after_name(path) + 4, struct.pack("<Q", 2**60))


def overlapping_gguf(path):
    patched(path, after_name(path) + 16, struct.pack("<Q", 32))


def mistyped_gguf(path):
    patched(path, after_name(path) + 12, struct.pack("<I", 999))


def gguf_type_that_is_not_read(path):
    patched(path, after_name(path) + 12, struct.pack("<I", gguf.GGMLQuantizationType.TQ1_0))
    patched(path, after_name(path) + 4, struct.pack("<Q", 256))


def gguf_of_a_future_version(path):
    patched(path, 4, struct.pack("<I", 9))


def gguf_of_another_architecture(path):
    data = path.read_bytes()
    path.write_bytes(data.replace(b"gemma3", b"falcon"))


def gguf_without_a_tokenizer(path):
    """As it is."""


GGUF_CASES = [
    (cut_gguf, '"output.weight" ends at byte 261824, the file has 261760. The file is cut short or damaged'),
    (
        cut_gguf_header,
        "the length of metadata key 0 at byte 24 needs 8 bytes, the file has 6 more. The file is cut short or damaged",
    ),
    (huge_gguf_tensor_count, "claims a number of tensors of 1152921504606846976, expected at most 262144"),
    (huge_gguf_metadata_count, "claims a number of metadata keys of 1152921504606846976, expected at most 65536"),
    (huge_gguf_shape, '"output_norm.weight" ends at byte 4611686018427559488, the file has 261824'),
    (overlapping_gguf, '"token_embd.weight" and "output_norm.weight" overlap. The file is damaged'),
    (mistyped_gguf, '"output_norm.weight" is stored as ggml type 999, expected one of BF16, F16, F32'),
    (gguf_type_that_is_not_read, '"output_norm.weight" is stored as TQ1_0, expected one of BF16, F16, F32'),
    (gguf_of_a_future_version, "is GGUF version 9, expected 2 or 3. Convert the model again"),
    (gguf_of_another_architecture, "general.architecture is 'falcon', expected one of gemma, gemma2, gemma3, llama"),
    (gguf_without_a_tokenizer, 'tokenizer.ggml.model is None, expected "llama"'),
]


@pytest.mark.parametrize(("damage", "message"), GGUF_CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_gguf(gguf_file, run, damage, message):
    damage(gguf_file)
    code, error = run(gguf_file, "hi")
    assert (code, f"model.gguf: {message}" in error) == (3, True), error


# --- everything else -------------------------------------------------------------------------------------------------


def test_tokenizer_that_does_not_match_the_embedding(write_tiny_model, tmp_path, run):
    folder = write_tiny_model(tmp_path / "model", vocab_size=600)
    code, error = run(folder, "hi")
    assert code == 3
    assert "uses token ids up to 699, but the embedding has 600 rows" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["gema-2b", "hi"], 4, "Close names: gemma-2b", id="unknown-name"),
        pytest.param(["./no/such/folder", "hi"], 4, "no/such/folder", id="no-such-path"),
        pytest.param(
            ["hf:broken", "hi"], 2, "hf:broken: not a reference of the form hf:ORG/REPO", id="broken-reference"
        ),
        pytest.param(["", "hi"], 2, "The model reference is empty", id="empty-reference"),
        pytest.param(["starter", ""], 2, "PROMPT is empty, expected the text to continue", id="empty-prompt"),
    ],
)
def test_wrong_request(run, arguments, code, message):
    found, error = run(*arguments)
    assert (found, message in error) == (code, True), error


def test_engine_that_is_not_there(folder, run, monkeypatch):
    monkeypatch.setattr("gemcut.checkpoint.load.is_built", lambda: False)
    code, error = run(folder, "hi", "--engine", "native")
    assert code == 1
    assert 'engine "native": this installation has no C++ engine. Install Gemcut again with a C++ compiler' in error


@pytest.mark.backend
class TestWhileLoadingOrAnswering:
    """What only shows once an engine is at work."""

    @pytest.mark.parametrize("number", [np.nan, np.inf], ids=["nan", "infinite"])
    def test_not_a_number_among_the_weights(self, folder, run, engine, number):
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-4:] = np.float32(number).tobytes()
        path.write_bytes(data)
        code, error = run(folder, "hi", "--engine", engine, "--dtype", "float32")
        assert code == 3
        assert "has a value that is NaN, infinite or too large for float32, expected finite numbers" in error

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            pytest.param(
                "{{ raise_exception('no such role') }}",
                "the template refuses these messages: no such role",
                id="raises",
            ),
            pytest.param("{{ ''.__class__.__mro__ }}", "tries what a template must not do (access to", id="escapes"),
            pytest.param("{{ messages[0].nothing.at_all }}", "fails on these messages", id="fails"),
            pytest.param("{% for a in range(10 ** 9) %}x{% endfor %}", "sandbox blocks ranges larger", id="never-ends"),
        ],
    )
    def test_template_that_raises_or_tries_to_escape(self, folder, run, engine, template, message):
        (folder / "chat_template.jinja").write_text(template)
        code, error = run(folder, "hi", "--chat", "--engine", engine)
        assert (code, message in error) == (3, True), error

    def test_prompt_longer_than_the_context(self, folder, run, engine):
        code, error = run(folder, "a " * 400, "--engine", engine)
        assert code == 2
        assert "tokens, but the context is 120 tokens. Shorten it" in error
