"""What a licence asks for is written beside what Gemcut makes, and what is missing is found."""

import pytest

from gemcut.config.published import APACHE_2, GEMMA_TERMS, LLAMA_2_LICENCE, Licence
from gemcut.hub import check_duties, duties, duties_metadata, duty_files, licence_of, write_duties
from gemcut.hub.duties import MODIFICATIONS_KEY, modifications_of
from gemcut.hub.licences import terms_of

CHANGE = "converted to GGUF, weights as Q4_K_M"
BASES = {
    GEMMA_TERMS: "google/gemma-2b",
    APACHE_2: "mistralai/Mistral-7B-v0.1",
    LLAMA_2_LICENCE: "meta-llama/Llama-2-7b-hf",
}


@pytest.fixture
def terms_folder(caches, monkeypatch):
    """Gemcut's folder of licence texts; the starter's copy counts as not installed."""
    monkeypatch.setattr(duties, "copy_of_gemma_terms", lambda: None)
    folder = caches / "gemcut" / "licences"
    folder.mkdir(parents=True)
    return folder


def a_copy_of(licence: Licence) -> str:
    """Stands for the licence's text, which is not ours to carry."""
    return " ... ".join(terms_of(licence).marks)


def made(folder, licence, **options):
    """A folder with everything written that Gemcut can write, a model card that names the base, and what is missing."""
    folder.mkdir(exist_ok=True)
    write_duties(folder, licence, base=BASES[licence], modifications=[CHANGE], **options)
    (folder / "README.md").write_text(f"---\nbase_model: {BASES[licence]}\n---\n")
    return {duty.name: duty for duty in check_duties(folder, licence_of(folder)) if not duty.met}


@pytest.mark.parametrize("licence", BASES, ids=lambda licence: licence.name)
def test_what_is_written_is_all_that_is_asked_for(caches, terms_folder, licence):
    (terms_folder / "saved.txt").write_text(a_copy_of(licence))
    assert made(caches / "out", licence) == {}


@pytest.mark.parametrize("licence", [GEMMA_TERMS, LLAMA_2_LICENCE], ids=lambda licence: licence.name)
def test_text_that_is_nowhere_at_hand_is_the_one_thing_missing(caches, terms_folder, licence):
    missing = made(caches / "out", licence)
    assert list(missing) == ["copy of the licence"]
    name = licence.name.replace(" ", "_")
    assert missing["copy of the licence"].detail == (
        f"Save {licence.url} beside it as {name}; saved in {terms_folder}, Gemcut copies it from then on."
    )
    (caches / "out" / f"{name}.txt").write_text(a_copy_of(licence))
    assert made(caches / "out", licence) == {}


@pytest.mark.parametrize(
    ("name", "duty", "detail"),
    [
        pytest.param("Notice", "notice", 'Add a text file "Notice" with this sentence: Gemma is provided', id="notice"),
        pytest.param(
            "Notice", "use restrictions told", "Tell recipients, for example in Notice: Use is", id="restrictions"
        ),
        pytest.param(
            "MODIFICATIONS.md", "record of changes", "State in MODIFICATIONS.md what was changed", id="record"
        ),
        pytest.param(
            "Gemma_Terms_of_Use.txt", "copy of the licence", "Save https://ai.google.dev/gemma/terms", id="terms"
        ),
    ],
)
def test_file_that_is_taken_away_is_missed(caches, terms_folder, name, duty, detail):
    (terms_folder / "saved.txt").write_text(a_copy_of(GEMMA_TERMS))
    folder = caches / "out"
    assert made(folder, GEMMA_TERMS) == {}
    (folder / name).unlink()
    missing = {item.name: item.detail for item in check_duties(folder, licence_of(folder)) if not item.met}
    assert missing[duty].startswith(detail)


def test_notice_holds_the_sentence_and_what_recipients_must_be_told(caches, terms_folder):
    made(caches / "out", GEMMA_TERMS)
    lines = (caches / "out" / "Notice").read_text().splitlines()
    assert lines[0] == (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
    )
    assert "section 3.2" in lines[2]


def test_record_says_what_was_done_to_what(caches, terms_folder):
    made(caches / "out", APACHE_2)
    text = (caches / "out" / "MODIFICATIONS.md").read_text()
    assert "they were made from the files of mistralai/Mistral-7B-v0.1." in text
    assert f"\n- {CHANGE} (Gemcut " in text


def test_apache_is_carried_in_full(caches, terms_folder):
    made(caches / "out", APACHE_2)
    assert (caches / "out" / "LICENSE").read_text().count("\n") > 200


def test_relabelled_model_is_found(caches, terms_folder):
    (terms_folder / "saved.txt").write_text(a_copy_of(GEMMA_TERMS))
    made(caches / "out", GEMMA_TERMS)
    (caches / "out" / "README.md").write_text("---\nlicense: mit\nbase_model: google/gemma-2b\n---\n")
    finding = licence_of(caches / "out")
    missing = [duty for duty in check_duties(caches / "out", finding) if not duty.met]
    assert [duty.name for duty in missing] == ["nothing else claimed"]
    assert missing[0].detail == "Correct what contradicts the Gemma Terms of Use: README.md: license: mit."


@pytest.mark.parametrize(
    ("card", "name", "detail"),
    [
        pytest.param("", "licence known", "Name the model it was made from in the head of README.md: base_model: ORG/REPO", id="unknown"),
        pytest.param("base_model: me/mine", "licence known", r"(found only: README.md: base_model: me/mine)", id="unknown-base"),
        pytest.param("license: mit", "duties known", "Gemcut does not know what mit asks for. Read its text.", id="another"),
        pytest.param("base_model: [google/gemma-2b, google/gemma-4-E2B]", "licence known", "Its sources contradict each other: README.md", id="contradiction"),
    ],
)  # fmt: skip
def test_licence_that_is_not_clear_is_the_first_thing_missing(caches, card, name, detail):
    (caches / "README.md").write_text(f"---\n{card}\n---\n")
    missing = [duty for duty in check_duties(caches, licence_of(caches)) if not duty.met]
    assert [duty.name for duty in missing] == [name]
    assert detail in missing[0].detail


def test_single_file_has_its_own_files_and_keys(caches, terms_folder):
    (terms_folder / "saved.html").write_text(a_copy_of(GEMMA_TERMS))
    file = caches / "m.gguf"
    file.touch()
    (caches / "other.gguf").touch()
    written = write_duties(file, GEMMA_TERMS, base="google/gemma-2b", modifications=[CHANGE])
    assert [path.name for path in written] == ["m.gguf.Notice.txt", "m.gguf.Gemma_Terms_of_Use.html"]
    metadata = duties_metadata(GEMMA_TERMS, base="google/gemma-2b", modifications=[CHANGE])
    assert metadata["general.license"] == "gemma"
    assert metadata["general.base_model.0.repo_url"] == "https://huggingface.co/google/gemma-2b"
    assert metadata["gemcut.notice"] == terms_of(GEMMA_TERMS).notice
    assert metadata[MODIFICATIONS_KEY][0].startswith(CHANGE)
    assert [duty for duty in check_duties(file, licence_of(file, metadata), metadata) if not duty.met] == []


@pytest.mark.parametrize(
    ("licence", "base", "keys"),
    [
        pytest.param(None, None, {}, id="nothing-known"),
        pytest.param(None, "mine", {"general.base_model.count": 1, "general.base_model.0.name": "mine"}, id="bare-name"),
        pytest.param(
            Licence("mit", ""), None, {"general.license": "mit", "general.license.name": "mit"},
            id="unknown-licence",
        ),
    ],
)  # fmt: skip
def test_keys_say_no_more_than_is_known(licence, base, keys):
    assert duties_metadata(licence, base=base, modifications=[]) == keys


def test_changes_and_notices_of_the_source_are_handed_on(caches, terms_folder):
    (terms_folder / "saved.txt").write_text(a_copy_of(GEMMA_TERMS))
    made(caches / "first", GEMMA_TERMS)
    notice = caches / "first" / "Notice"
    notice.write_text(notice.read_text() + "\nTuned by Example Ltd.\n")
    options = {"base": "google/gemma-2b", "modifications": ["quantised"], "source": caches / "first"}
    files = duty_files(GEMMA_TERMS, **options)
    assert files["Notice"].decode().endswith("\n\nTuned by Example Ltd.\n")
    changes = [line for line in files["MODIFICATIONS.md"].decode().splitlines() if line.startswith("- ")]
    assert [change.partition(" (")[0] for change in changes] == [f"- {CHANGE}", "- quantised"]
    assert files["Gemma_Terms_of_Use.txt"] == (terms_folder / "saved.txt").read_bytes()
    beside = duty_files(GEMMA_TERMS, file_name="m.gguf", **options)
    assert sorted(beside) == ["m.gguf.Gemma_Terms_of_Use.txt", "m.gguf.Notice.txt"]
    text = beside["m.gguf.Notice.txt"].decode()
    assert text.count("# Modifications") == 1
    assert "Tuned by Example Ltd." in text


def test_changes_of_a_gguf_source_are_handed_on(caches, terms_folder):
    source = caches / "m.gguf"
    source.touch()
    write_duties(source, APACHE_2, base=BASES[APACHE_2], modifications=[CHANGE])
    metadata = {MODIFICATIONS_KEY: ["once (Gemcut 0, 2026-01-01)"]}
    files = duty_files(APACHE_2, base=BASES[APACHE_2], modifications=["twice"], source=source, source_metadata=metadata)
    assert sorted(files) == ["LICENSE", "MODIFICATIONS.md"]
    assert b"- once (Gemcut 0, 2026-01-01)\n- twice (Gemcut" in files["MODIFICATIONS.md"]
    assert modifications_of(source) == modifications_of(source, {MODIFICATIONS_KEY: "not a list"})
    assert modifications_of(source)[0].startswith(CHANGE)
    assert modifications_of(source, metadata) == metadata[MODIFICATIONS_KEY]


def test_notice_of_an_apache_model_goes_on_as_it_is(caches, terms_folder):
    source = caches / "source"
    source.mkdir()
    (source / "NOTICE").write_text("Copyright Example")
    files = duty_files(APACHE_2, base=None, modifications=[], source=source)
    assert files["NOTICE"] == b"Copyright Example"
    assert sorted(files) == ["LICENSE", "NOTICE"]


def test_licence_that_is_not_known_hands_on_what_lies_there(caches, terms_folder):
    source = caches / "source"
    source.mkdir()
    (source / "LICENSE").write_text("our own terms")
    files = duty_files(None, base=None, modifications=["converted"], source=source)
    assert files["LICENSE"] == b"our own terms"
    assert b"they were made from files whose origin they do not state" in files["MODIFICATIONS.md"]


def test_record_beside_several_models_is_of_none_of_them(caches):
    (caches / "MODIFICATIONS.md").write_text("- tuned")
    (caches / "a.gguf").touch()
    assert modifications_of(caches / "a.gguf") == ["tuned"]
    (caches / "b.gguf").touch()
    assert modifications_of(caches / "a.gguf") == []


@pytest.mark.parametrize("name", ["README.md", "USE_POLICY.md"])
def test_restrictions_may_be_told_in_other_words(caches, terms_folder, name):
    (caches / "Notice").write_text(terms_of(GEMMA_TERMS).notice)
    (caches / name).write_text("Mind https://ai.google.dev/gemma/prohibited_use_policy!")
    duty = next(duty for duty in check_duties(caches, licence_of(caches)) if duty.name == "use restrictions told")
    assert (duty.met, duty.detail) == (True, name)


def test_original_needs_no_record_of_changes(caches, terms_folder):
    folder = caches / "hf" / "models--google--gemma-2b" / "snapshots" / "0"
    folder.mkdir(parents=True)
    duty = next(duty for duty in check_duties(folder, licence_of(folder)) if duty.name == "record of changes")
    assert (duty.met, duty.detail) == (True, "none made: google/gemma-2b as published")


def test_text_of_apache_is_that_of_the_repository():
    from pathlib import Path

    assert duties._APACHE_TEXT.read_bytes() == (Path(__file__).parents[2] / "LICENSE").read_bytes()
