"""Which licence a model comes under: what it was made from decides, and its shape never does."""

import json

import pytest

from gemcut.config.published import APACHE_2, GEMMA_TERMS, LLAMA_2_LICENCE, Licence
from gemcut.errors import CheckpointError
from gemcut.hub import duties, licence_finding, licence_of
from gemcut.hub.licences import terms_of

APACHE_TEXT = duties._APACHE_TEXT.read_text()


def card(**keys: str) -> str:
    return "\n".join(["---", *(f"{key}: {value}" for key, value in keys.items()), "---", ""])


@pytest.mark.parametrize(
    ("files", "licence", "base", "num_conflicts"),
    [
        pytest.param({}, None, None, 0, id="nothing"),
        pytest.param({"config.json": '{"model_type": "gemma2"}'}, None, None, 0, id="shape-only"),
        pytest.param({"README.md": card(license="gemma")}, GEMMA_TERMS, None, 0, id="card"),
        pytest.param({"README.md": card(license="mit")}, Licence("mit", ""), None, 0, id="card-unknown-licence"),
        pytest.param({"README.md": card(license="other", license_name="gemma")}, GEMMA_TERMS, None, 0, id="card-other"),
        pytest.param({"README.md": card(license="other")}, Licence("other", ""), None, 0, id="card-other-without-name"),
        pytest.param(
            {"README.md": card(base_model="google/gemma-2b")}, GEMMA_TERMS, "google/gemma-2b", 0, id="base-in-card"
        ),
        pytest.param(
            {"README.md": card(license="apache-2.0", base_model="google/gemma-2b")},
            GEMMA_TERMS, "google/gemma-2b", 1, id="relabelled-apache",
        ),
        pytest.param(
            {"README.md": card(license="mit", base_model="google/gemma-2b")},
            GEMMA_TERMS, "google/gemma-2b", 1, id="relabelled-mit",
        ),
        pytest.param(
            {"README.md": card(base_model="[google/gemma-2b, meta-llama/Llama-2-7b-hf]")},
            None, "google/gemma-2b", 2, id="merge-of-two-licences",
        ),
        pytest.param(
            {"README.md": card(license="gemma", base_model="me/mine")}, GEMMA_TERMS, "me/mine", 0, id="base-not-published"
        ),
        pytest.param(
            {"README.md": card(license="gemma"), "LICENSE": APACHE_TEXT}, None, None, 2, id="contradiction"
        ),
        pytest.param({"LICENSE": APACHE_TEXT}, APACHE_2, None, 0, id="text"),
        pytest.param({"Notice": terms_of(LLAMA_2_LICENCE).notice}, LLAMA_2_LICENCE, None, 0, id="notice"),
        pytest.param({"LICENSE": "Apache-2.0 in name only"}, None, None, 0, id="name-is-no-text"),
        pytest.param(
            {"config.json": json.dumps({"_name_or_path": "google/gemma-4-E2B"})}, APACHE_2, "google/gemma-4-E2B", 0,
            id="config",
        ),
        pytest.param({"config.json": json.dumps({"_name_or_path": "/tmp/out"})}, None, None, 0, id="config-with-a-path"),
        pytest.param(
            {"adapter_config.json": json.dumps({"base_model_name_or_path": "google/gemma-2b"})},
            GEMMA_TERMS, "google/gemma-2b", 0, id="adapter",
        ),
    ],
)  # fmt: skip
def test_folder(caches, files, licence, base, num_conflicts):
    folder = caches / "model"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    finding = licence_of(folder)
    assert (finding.licence, finding.base, len(finding.conflicts)) == (licence, base, num_conflicts)
    assert set(finding.conflicts) <= set(finding.evidence)


@pytest.mark.parametrize(
    ("metadata", "licence", "base"),
    [
        pytest.param({}, None, None, id="nothing"),
        pytest.param({"general.license": "gemma"}, GEMMA_TERMS, None, id="licence"),
        pytest.param({"general.license": "other", "general.license.name": "gemma"}, GEMMA_TERMS, None, id="name"),
        pytest.param(
            {
                "general.license": "mit",
                "general.base_model.count": 1,
                "general.base_model.0.repo_url": "https://huggingface.co/google/gemma-2b",
            },
            GEMMA_TERMS,
            "google/gemma-2b",
            id="base-by-address",
        ),
        pytest.param(
            {
                "general.base_model.count": 1,
                "general.base_model.0.organization": "Google",
                "general.base_model.0.name": "gemma-4-E2B",
            },
            APACHE_2,
            "Google/gemma-4-E2B",
            id="base-by-name",
        ),
        pytest.param({"general.base_model.count": 1}, None, None, id="base-without-a-name"),
        pytest.param({"general.base_model.count": 1 << 60}, None, None, id="absurd-count"),
        pytest.param({"general.base_model.count": "many"}, None, None, id="count-that-is-no-number"),
    ],
)
def test_gguf_keys(caches, metadata, licence, base):
    (caches / "m.gguf").touch()
    finding = licence_of(caches / "m.gguf", metadata)
    assert (finding.licence, finding.base) == (licence, base)


def test_card_beside_several_gguf_files_is_of_none_of_them(caches):
    (caches / "README.md").write_text(card(license="gemma"))
    (caches / "a.gguf").touch()
    assert licence_of(caches / "a.gguf").licence == GEMMA_TERMS
    (caches / "b.gguf").touch()
    assert licence_of(caches / "a.gguf").licence is None
    (caches / "a.gguf.LICENSE").write_text(APACHE_TEXT)
    assert licence_of(caches / "a.gguf").licence == APACHE_2
    assert licence_of(caches / "b.gguf").licence is None


@pytest.mark.parametrize(
    ("place", "base", "licence"),
    [
        pytest.param("hf/models--google--gemma-2b/snapshots/0", "google/gemma-2b", GEMMA_TERMS, id="huggingface"),
        pytest.param("hf/models--me--mine/snapshots/0", "me/mine", None, id="huggingface-unknown"),
        pytest.param(
            "kaggle/models/google/gemma-3/transformers/gemma-3-270m/1",
            "google/gemma-3/transformers/gemma-3-270m",
            GEMMA_TERMS,
            id="kaggle",
        ),
        pytest.param("gemcut/starter", "google/gemma-3-270m", GEMMA_TERMS, id="starter"),
        pytest.param(
            "gemcut/gs/gemma-data/checkpoints/gemma3-1b-it",
            "gemma-data/checkpoints/gemma3-1b-it",
            GEMMA_TERMS,
            id="gcs",
        ),
        pytest.param("gemcut/gs/bucket/gemma", "bucket/gemma", None, id="gcs-unknown"),
    ],
)
def test_place_in_a_cache(caches, place, base, licence):
    folder = caches / place
    folder.mkdir(parents=True)
    finding = licence_of(folder)
    assert (finding.base, finding.licence) == (base, licence)


def test_folder_that_cannot_be_read_is_named(caches, monkeypatch):
    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", fail)
    with pytest.raises(CheckpointError, match=r": cannot be read \(Permission denied\). Check its permissions"):
        licence_of(caches)


def test_text_too_large_for_a_licence_is_refused(caches, monkeypatch):
    monkeypatch.setattr(licence_finding, "MAX_TEXT_BYTES", 10)
    (caches / "LICENSE").write_text("x" * 11)
    with pytest.raises(CheckpointError, match="LICENSE: is 11 bytes, expected at most 10"):
        licence_of(caches)
