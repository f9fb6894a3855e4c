"""What lies in the caches is listed and removed; nothing else is touched."""

import pytest

from gemcut.errors import GemcutError, NotFoundError, UsageError
from gemcut.hub import list_local_models, plan_removal, pull

FIRST, SECOND = "a" * 40, "b" * 40


def add_huggingface(root, repository: str, commit: str, files: dict[str, bytes], ref: str | None = "main"):
    """A repository as Hugging Face's client lays it out: content in blobs, links to it in snapshots."""
    folder = root / "hf" / ("models--" + repository.replace("/", "--"))
    for name, content in files.items():
        blob = folder / "blobs" / content.hex()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if ref:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return folder


def add_kaggle(root, version: str, *, complete: bool = True):
    folder = root / "kaggle" / "models" / "a" / "b" / "c" / "d" / version
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"123")
    if complete:
        folder.with_name(f"{version}.complete").touch()
    return folder


def add_file(path, content: bytes = b"12345"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listed():
    return [(model.reference, model.num_bytes, model.is_complete) for model in list_local_models()]


def test_empty_caches_hold_nothing(caches):
    assert list_local_models() == []


def test_every_cache_is_listed(caches):
    add_huggingface(caches, "a/b", FIRST, {"model.safetensors": b"1234", "config.json": b"{}"})
    add_huggingface(caches, "a/b", SECOND, {"model.safetensors": b"1234", "x/y.json": b"[1]"}, ref="v1")
    add_huggingface(caches, "a/c", FIRST, {"config.json": b"{}"}, ref=None)
    add_file(caches / "hf" / "models--a--d" / "blobs" / "0.gemcut.incomplete")
    add_kaggle(caches, "1")
    add_kaggle(caches, "2", complete=False)
    add_file(caches / "gemcut" / "starter" / "x.gguf")
    add_file(caches / "gemcut" / "gs" / "bucket" / "m" / "config.json")
    add_file(caches / "gemcut" / "gs" / "bucket" / "m" / "sub" / "weights")
    add_file(caches / "gemcut" / "gs" / "bucket" / "m.complete", b"")
    add_file(caches / "gemcut" / "gs" / "bucket" / "n" / "weights.1.incomplete")
    add_file(caches / "gemcut" / "gs" / "bucket" / "n" / "sub" / "rest")
    add_file(caches / "gemcut" / "gs" / "bucket" / "o" / "one.gguf")
    add_file(caches / "gemcut" / "gs" / "bucket" / "o" / "one.gguf.complete", b"")
    assert listed() == [
        ("gs://bucket/m", 10, True),
        ("gs://bucket/n", 10, False),
        ("gs://bucket/o/one.gguf", 5, True),
        ("hf:a/b", 6, True),
        ("hf:a/b@v1", 7, True),
        (f"hf:a/c@{FIRST}", 2, True),
        ("hf:a/d", 5, False),
        ("kaggle:a/b/c/d/1", 3, True),
        ("kaggle:a/b/c/d/2", 3, False),
        ("starter", 5, True),
    ]


def test_revision_goes_and_what_others_share_stays(caches):
    folder = add_huggingface(caches, "a/b", FIRST, {"model.safetensors": b"1234", "config.json": b"{}"})
    add_huggingface(caches, "a/b", SECOND, {"model.safetensors": b"1234", "config.json": b"[1]"}, ref="v1")
    removal = plan_removal("hf:a/b@v1")
    assert (removal.num_bytes, [path.name for path in removal.paths]) == (3, [SECOND])
    removal.execute()
    assert listed() == [("hf:a/b", 6, True)]
    assert (folder / "snapshots" / FIRST / "model.safetensors").read_bytes() == b"1234"


def test_one_file_goes(caches):
    add_huggingface(caches, "a/b", FIRST, {"one.gguf": b"1", "sub/two.gguf": b"22"})
    removal = plan_removal("hf:a/b/sub/two.gguf")
    assert removal.num_bytes == 2
    removal.execute()
    assert listed() == [("hf:a/b", 1, True)]


def test_whole_repository_goes_and_a_fork_with_the_same_commit_stays(caches):
    folder = add_huggingface(caches, "a/b", FIRST, {"config.json": b"{}"})
    add_huggingface(caches, "fork/b", FIRST, {"config.json": b"{}"})
    plan_removal("hf:a/b").execute()
    assert not folder.exists()
    assert listed() == [("hf:fork/b", 2, True)]


def test_rest_of_an_interrupted_download_goes(caches):
    partial = add_file(caches / "hf" / "models--a--d" / "blobs" / "0.gemcut.incomplete")
    removal = plan_removal("hf:a/d")
    assert removal.num_bytes == 5
    removal.execute()
    assert not partial.parents[1].exists()


def test_cache_that_the_client_cannot_read_is_left_alone(caches):
    folder = add_huggingface(caches, "a/b", FIRST, {"config.json": b"{}"})
    (folder / "refs" / "main").write_text("c" * 40)
    with pytest.raises(
        GemcutError, match="models--a--b: Hugging Face's client cannot make sense of it .*Remove the folder"
    ):
        plan_removal("hf:a/b")
    assert folder.exists()


@pytest.mark.parametrize(
    ("reference", "left"),
    [
        pytest.param("kaggle:a/b/c/d/2", ["kaggle:a/b/c/d/1"], id="version"),
        pytest.param("kaggle:a/b/c/d", [], id="all-versions"),
    ],
)
def test_kaggle(caches, reference, left):
    for version in ("1", "2"):
        add_kaggle(caches, version)
    plan_removal(reference).execute()
    assert [model.reference for model in list_local_models()] == left
    assert not (caches / "kaggle" / "models" / "a" / "b" / "c" / "d" / "2.complete").exists()


def test_gcs_and_starter(caches):
    add_file(caches / "gemcut" / "gs" / "bucket" / "m" / "weights")
    add_file(caches / "gemcut" / "gs" / "bucket" / "m.complete", b"")
    add_file(caches / "gemcut" / "gs" / "bucket" / "m.1.incomplete")
    add_file(caches / "gemcut" / "gs" / "bucket" / "mm" / "weights", b"")
    add_file(caches / "gemcut" / "starter" / "x.gguf")
    removal = plan_removal("gs://bucket/m")
    assert removal.num_bytes == 10
    removal.execute()
    plan_removal("starter").execute()
    assert listed() == [("gs://bucket/mm", 0, False)]


def test_published_name_means_the_hub_where_it_lies(caches):
    folder = caches / "kaggle" / "models" / "keras" / "gemma" / "keras" / "gemma_2b_en"
    add_file(folder / "3" / "model.weights.h5")
    assert plan_removal("gemma-2b").paths == (folder,)
    add_huggingface(caches, "google/gemma-2b", FIRST, {"config.json": b"{}"})
    assert plan_removal("gemma-2b").paths == (caches / "hf" / "models--google--gemma-2b",)


@pytest.mark.parametrize(
    "reference", ["hf:a/b", "hf:a/b@v9", "kaggle:a/b/c/d", "gs://a/b", "starter", "gemma-2b", "llama-2-13b"]
)
def test_what_is_not_here_cannot_be_removed(caches, reference):
    if reference == "hf:a/b@v9":
        add_huggingface(caches, "a/b", FIRST, {"config.json": b"{}"})
    with pytest.raises(NotFoundError, match=f"{reference}: not on this machine .*nothing to remove. List what is"):
        plan_removal(reference)


def test_paths_are_refused(caches):
    (caches / "m.gguf").touch()
    with pytest.raises(UsageError, match="is a path; only what lies in a cache is removed"):
        plan_removal(str(caches / "m.gguf"))


def test_link_out_of_a_cache_is_not_followed(caches):
    outside = add_file(caches / "outside" / "weights")
    (caches / "gemcut" / "gs" / "bucket").mkdir(parents=True)
    (caches / "gemcut" / "gs" / "bucket" / "m").symlink_to(outside.parent)
    with pytest.raises(GemcutError, match="could not be removed"):
        plan_removal("gs://bucket/m").execute()
    assert outside.exists()


def test_what_pull_brought_is_listed_and_removed(fake_hub):
    pull("hf:ORG/tiny")
    total = sum(
        len(fake_hub.files[name]) for name in ("config.json", "README.md", "tokenizer.model", "model.safetensors")
    )
    assert listed() == [("hf:ORG/tiny", total, True)]
    plan_removal("hf:ORG/tiny").execute()
    assert list_local_models() == []
