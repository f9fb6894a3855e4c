"""Model references: what they mean, and where they are found on this machine."""

from pathlib import Path

import pytest

from gemcut.errors import NotFoundError, UsageError
from gemcut.hub import COMMAND_NAMES, Reference, parse_reference, resolve

COMMIT = "0123456789abcdef"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and a current folder of its own."""
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "gemcut"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def add_huggingface(root: Path, repository: str, *, revision: str | None = "main", file: str = "config.json") -> Path:
    folder = root / ("models--" + repository.replace("/", "--"))
    snapshot = folder / "snapshots" / COMMIT
    (snapshot / file).parent.mkdir(parents=True)
    (snapshot / file).write_text("{}")
    if revision:
        ref = folder / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("starter", ("starter", "starter", None, None), id="starter"),
        pytest.param("gemma-2b-it", ("published", "gemma-2b-it", None, None), id="published"),
        pytest.param("hf:google/gemma-2b", ("huggingface", "google/gemma-2b", None, None), id="hf"),
        pytest.param("hf:a/b.c/d/e.gguf@v1.0", ("huggingface", "a/b.c", "d/e.gguf", "v1.0"), id="hf-file-revision"),
        pytest.param("hf:a/b@refs/pr/1", ("huggingface", "a/b", None, "refs/pr/1"), id="hf-pull-request"),
        pytest.param("kaggle:a/b/c/d", ("kaggle", "a/b/c/d", None, None), id="kaggle"),
        pytest.param("kaggle:a/b/c/d/3", ("kaggle", "a/b/c/d", None, "3"), id="kaggle-version"),
        pytest.param("gs://bucket/a/b", ("gcs", "bucket/a/b", None, None), id="gcs"),
        pytest.param("./chat", ("path", "./chat", None, None), id="path-named-like-a-command"),
        pytest.param("models/x.gguf", ("path", "models/x.gguf", None, None), id="relative-path"),
        pytest.param("~/x.gguf", ("path", "~/x.gguf", None, None), id="home-path"),
        pytest.param(Path("starter"), ("path", "starter", None, None), id="path-object"),
    ],
)
def test_forms(text, expected):
    reference = parse_reference(text)
    assert (reference.kind, reference.name, reference.file, reference.revision) == expected
    assert reference.text == str(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "The model reference is empty. Name a model", id="empty"),
        pytest.param("hf:gemma-2b", r"hf:gemma-2b: not a reference of the form hf:ORG/REPO\[/FILE\]", id="hf-no-org"),
        pytest.param("hf:a/../b", "hf:a/../b: not a reference of the form", id="hf-dots"),
        pytest.param("hf:a/b/../../c", "not a reference of the form", id="hf-file-dots"),
        pytest.param("hf:a/b@../../c", "not a reference of the form", id="hf-revision-dots"),
        pytest.param("kaggle:a/b", "kaggle:a/b: not a reference of the form kaggle:OWNER/MODEL", id="kaggle-short"),
        pytest.param("kaggle:a/b/c/d/new", "not a reference of the form kaggle", id="kaggle-version"),
        pytest.param("gs://bucket", "gs://bucket: not a reference of the form gs://BUCKET/PATH", id="gcs-no-path"),
    ],
)
def test_malformed_references_show_the_form(text, message):
    with pytest.raises(UsageError, match=message):
        parse_reference(text)


def test_bare_word_is_a_path_when_one_is_here():
    Path("model.gguf").touch()
    assert resolve("model.gguf") == Path("model.gguf")


def test_known_names_win_over_files_of_that_name():
    Path("gemma-2b").mkdir()
    assert parse_reference("gemma-2b").kind == "published"
    assert resolve("./gemma-2b") == Path("gemma-2b")


def test_folder_named_like_a_command_needs_a_path():
    Path("chat").mkdir()
    with pytest.raises(NotFoundError, match=r"chat: a command of gemcut has this name. Write ./chat for the model"):
        parse_reference("chat")
    assert resolve("./chat") == Path("chat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("gema-2b", "gema-2b: neither a model name nor .* Close names: gemma-2b", id="misspelt"),
        pytest.param("run", "run: neither a model name nor a file", id="command"),
        pytest.param("./nothing", "./nothing: no such file or folder. Check the path", id="path"),
        pytest.param(
            "google/gemma-2b", "For a Hugging Face repository write hf:google/gemma-2b", id="hf-without-prefix"
        ),
        pytest.param(
            "hf:a/b", r"hf:a/b: not on this machine \(looked in .*models--a--b\).*gemcut pull hf:a/b", id="hf"
        ),
        pytest.param("kaggle:a/b/c/d", "not on this machine .*Get it with: gemcut pull kaggle:a/b/c/d", id="kaggle"),
        pytest.param("gs://a/b", "not on this machine .*Get it with: gemcut pull gs://a/b", id="gcs"),
        pytest.param("gemma-2b", "gemma-2b: not on this machine .* and .*gemcut pull gemma-2b", id="published"),
    ],
)
def test_what_is_not_here_says_how_to_get_it(text, message):
    with pytest.raises(NotFoundError, match=message) as caught:
        resolve(text)
    assert caught.value.exit_code == 4


def test_huggingface_cache_by_branch_commit_and_file(caches):
    snapshot = add_huggingface(caches / "hf", "a/b", file="sub/x.gguf")
    assert resolve("hf:a/b") == resolve("hf:a/b@main") == resolve(f"hf:a/b@{COMMIT}") == snapshot
    assert resolve("hf:a/b/sub/x.gguf") == snapshot / "sub" / "x.gguf"
    for missing in ("hf:a/b@v2", "hf:a/b/other.gguf"):
        with pytest.raises(NotFoundError, match="not on this machine"):
            resolve(missing)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        pytest.param({"HF_HOME": "{root}/home2"}, "home2/hub", id="HF_HOME"),
        pytest.param({"HUGGINGFACE_HUB_CACHE": "{root}/old"}, "old", id="old-name"),
        pytest.param({"XDG_CACHE_HOME": "{root}/xdg"}, "xdg/huggingface/hub", id="XDG"),
        pytest.param({}, "home/.cache/huggingface/hub", id="home"),
    ],
)
def test_huggingface_cache_moves_with_its_variables(caches, monkeypatch, variables, folder):
    monkeypatch.delenv("HF_HUB_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(root=caches))
    assert add_huggingface(caches / folder, "a/b") == resolve("hf:a/b")


def test_kaggle_cache_takes_the_newest_complete_version(caches):
    folder = caches / "kaggle" / "models" / "a" / "b" / "c" / "d"
    for version in ("2", "9", "10", "11"):
        (folder / version).mkdir(parents=True)
    for version in ("2", "9", "10"):
        (folder / f"{version}.complete").touch()
    assert resolve("kaggle:a/b/c/d") == folder / "10"
    assert resolve("kaggle:a/b/c/d/2") == folder / "2"
    with pytest.raises(NotFoundError, match="gemcut pull kaggle:a/b/c/d/11"):
        resolve("kaggle:a/b/c/d/11")


def test_published_names_are_found_on_either_hub(caches):
    preset = caches / "kaggle" / "models" / "keras" / "gemma" / "keras" / "gemma_2b_en" / "3"
    preset.mkdir(parents=True)
    preset.with_name("3.complete").touch()
    assert resolve("gemma-2b") == preset
    snapshot = add_huggingface(caches / "hf", "google/gemma-2b")
    assert resolve("gemma-2b") == snapshot


def test_gcs_copies_lie_in_gemcuts_cache(caches):
    (caches / "gemcut" / "gs" / "bucket" / "a").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="gs://bucket/a: not on this machine"):
        resolve("gs://bucket/a")
    (caches / "gemcut" / "gs" / "bucket" / "a.complete").touch()
    assert resolve("gs://bucket/a") == caches / "gemcut" / "gs" / "bucket" / "a"


def test_parsed_references_resolve_too():
    Path("x").mkdir()
    assert resolve(Reference("path", "x", "x")) == Path("x")


def test_command_names_cover_the_commands():
    from gemcut.cli import app

    assert {command.name.split()[0] for command in app.registered_commands} <= COMMAND_NAMES


def test_starter_it_is_the_starter_with_its_adapter(tmp_path, monkeypatch):
    from gemcut.hub import adapter_of, resolve_whole, starter

    package = tmp_path / "gemcut_starter_it"
    monkeypatch.setattr(starter, "_package_folder", lambda name: package if name == package.name else None)
    assert adapter_of("starter-it") == package / "adapter"
    with pytest.raises(UsageError, match="starter-it: is a model and an adapter beside it"):
        resolve_whole("starter-it")
    assert adapter_of("starter") is None
    assert adapter_of(tmp_path) is None
    monkeypatch.setattr(starter, "_package_folder", lambda name: None)
    with pytest.raises(NotFoundError, match="starter-it: its adapter is not installed. Run: pip install"):
        resolve("starter-it")
