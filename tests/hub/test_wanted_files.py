"""Which files of a repository are taken."""

import pytest

from gemcut.errors import NotFoundError, UsageError
from gemcut.hub.wanted_files import choose_files

GEMMA = (
    ".gitattributes README.md config.json generation_config.json chat_template.jinja model-00001-of-00002.safetensors "
    "model-00002-of-00002.safetensors model.safetensors.index.json special_tokens_map.json tokenizer.json "
    "tokenizer.model tokenizer_config.json"
).split()
CASES = {
    "safetensors": (GEMMA, {".gitattributes"}),
    "safetensors-before-all": (
        [*GEMMA, "gemma-2b.gguf", "pytorch_model.bin", "pytorch_model.bin.index.json", "flax_model.msgpack"],
        {".gitattributes", "gemma-2b.gguf", "pytorch_model.bin", "pytorch_model.bin.index.json", "flax_model.msgpack"},
    ),
    "mistral": (
        ["config.json", "consolidated.safetensors", "model.safetensors", "params.json", "tokenizer.model.v3"],
        {"consolidated.safetensors", "tokenizer.model.v3"},
    ),
    "llama": (
        ["LICENSE.txt", "USE_POLICY.md", "config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json",
         "original/consolidated.00.pth", "original/params.json", "tokenizer.model"],
        {"original/consolidated.00.pth", "original/params.json"},
    ),
    "adapter": (["adapter_config.json", "adapter_model.safetensors", "training_args.bin", "optimizer.pt"], {"training_args.bin", "optimizer.pt"}),
    "one-gguf": (["README.md", "model-Q4_K_M.gguf", "mmproj-model.gguf", "imatrix.dat"], {"mmproj-model.gguf", "imatrix.dat"}),
    "split-gguf": (["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], set()),
    "keras": (
        ["assets/tokenizer/vocabulary.spm", "config.json", "metadata.json", "model.weights.h5", "assets/picture.png"],
        {"assets/picture.png"},
    ),
    "torch-of-google": (["gemma-2b.ckpt", "tokenizer.model", "config.json"], set()),
    "no-code": (["model.safetensors", "config.json", "modeling_gemma.py", "assets/logo.png"], {"modeling_gemma.py", "assets/logo.png"}),
}  # fmt: skip


@pytest.mark.parametrize(("names", "left_out"), CASES.values(), ids=CASES)
def test_a_model_needs(names, left_out):
    assert choose_files(names, "hf:a/b") == [name for name in names if name not in left_out]


def test_named_file_is_taken_alone():
    assert choose_files(GEMMA, "hf:a/b", file="tokenizer.model") == ["tokenizer.model"]


def test_named_part_brings_the_others():
    names = [f"sub/m-{part:05d}-of-00003.gguf" for part in (1, 2, 3)]
    assert choose_files([*names, "config.json"], "hf:a/b", file=names[1]) == names


def test_patterns_take_what_fits():
    assert choose_files(GEMMA, "hf:a/b", include=["*.index.json", "tok*"]) == [
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("names", "options", "message", "error"),
    [
        pytest.param(["a-Q4_0.gguf", "a-Q8_0.gguf"], {}, "hf:a/b: holds 2 GGUF files, each a whole model. Name one: hf:a/b/a-Q4_0.gguf, hf:a/b/a-Q8_0.gguf", UsageError, id="several-gguf"),
        pytest.param(["README.md", "x.onnx"], {}, r"hf:a/b: holds no weights that are known \(.safetensors, .*\) but README.md, x.onnx", NotFoundError, id="no-weights"),
        pytest.param([], {}, "but nothing. Name a file", NotFoundError, id="empty"),
        pytest.param(GEMMA, {"file": "x.gguf"}, "hf:a/b: has no file x.gguf. It holds .gitattributes,.* and 4 more", NotFoundError, id="no-such-file"),
        pytest.param(GEMMA, {"include": ["*.gguf", "*.bin"]}, r"no file matches \*.gguf, \*.bin. It holds", NotFoundError, id="no-match"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(names, options, message, error):
    with pytest.raises(error, match=message):
        choose_files(names, "hf:a/b", **options)
