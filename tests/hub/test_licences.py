"""The table of licences, and which published model comes under which."""

import pytest

from gemcut.config import PUBLISHED
from gemcut.config.published import APACHE_2, GEMMA_TERMS, LLAMA_2_LICENCE
from gemcut.hub.licences import (
    TERMS,
    Licence,
    is_copy,
    licence_named,
    licence_of_published,
    licence_stated,
    show_terms_once,
    terms_of,
)


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("google/gemma-2b", GEMMA_TERMS),
        ("google/gemma-1.1-7b-it", GEMMA_TERMS),
        ("google/gemma-2-27b-it", GEMMA_TERMS),
        ("google/gemma-2-2b-jpn-it", GEMMA_TERMS),
        ("google/gemma-3-270m", GEMMA_TERMS),
        ("google/gemma-3n-E2B-it", GEMMA_TERMS),
        ("google/codegemma-1.1-2b", GEMMA_TERMS),
        ("google/paligemma2-3b-pt-224", GEMMA_TERMS),
        ("google/shieldgemma-2-4b-it", GEMMA_TERMS),
        ("google/embeddinggemma-300m", GEMMA_TERMS),
        ("google/functiongemma-270m-it", GEMMA_TERMS),
        ("google/t5gemma-2-270m-270m", GEMMA_TERMS),
        ("https://huggingface.co/google/gemma-2b/", GEMMA_TERMS),
        ("google/gemma/flax/2b-it", GEMMA_TERMS),
        ("keras/gemma_instruct_2b_en", GEMMA_TERMS),
        ("keras/gemma3/keras/gemma3_270m", GEMMA_TERMS),
        ("gemma-7b-it", GEMMA_TERMS),
        ("google/gemma-4-E2B-it", APACHE_2),
        ("mistralai/Mistral-7B-Instruct-v0.2", APACHE_2),
        ("keras/mistral/keras/mistral_7b_en", APACHE_2),
        ("meta-llama/Llama-2-70b-chat-hf", LLAMA_2_LICENCE),
        ("keras/gemma4/keras/gemma4_instruct_2b", APACHE_2),
        ("keras/code_gemma_1.1_2b_en", GEMMA_TERMS),
        ("gemma-data/checkpoints/gemma2-2b-pt", GEMMA_TERMS),
        ("gemma-data/checkpoints/gemma4-31b-it", APACHE_2),
        ("gemma-data/checkpoints/gemma5-2b", None),
        ("google/gemma-5-2b", None),
        ("google/embeddinggemma-2", None),
        ("google/gemma-27b", None),
        ("somebody/gemma-2b", None),
        ("meta-llama/Llama-3.1-8B", None),
        ("mistralai/Mistral-Large-2", None),
    ],
)
def test_published_models_by_name(name, licence):
    assert licence_of_published(name) == licence


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=PUBLISHED)
def test_names_agree_with_the_table_of_published_models(model):
    assert licence_of_published(model.huggingface) == model.licence
    assert terms_of(model.licence) is not None


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("gemma", GEMMA_TERMS),
        ("Gemma Terms of Use", GEMMA_TERMS),
        (" Apache-2.0 ", APACHE_2),
        ("llama2", LLAMA_2_LICENCE),
        ("llama3", None),
        ("", None),
        (None, None),
    ],
)
def test_words_of_model_cards(text, licence):
    assert licence_named(text) == licence


@pytest.mark.parametrize(
    ("name", "stated", "link", "expected"),
    [
        pytest.param("google/gemma-2b", "mit", None, GEMMA_TERMS, id="name-before-statement"),
        pytest.param("a/b", "apache-2.0", None, APACHE_2, id="known"),
        pytest.param("a/b", "mit", "LICENSE", Licence("mit", "https://huggingface.co/a/b"), id="unknown"),
        pytest.param("a/b", "own", "https://x.org/t", Licence("own", "https://x.org/t"), id="link"),
        pytest.param("a/b", None, None, None, id="nothing"),
        pytest.param(
            "a/b", "\x1b[2J" + "x" * 99, None, Licence("[2J" + "x" * 76, "https://huggingface.co/a/b"), id="hostile"
        ),
    ],
)
def test_statement_of_a_repository(name, stated, link, expected):
    assert licence_stated(name, stated, link) == expected


def test_each_licence_has_what_it_asks_for():
    by_name = {terms.licence.name: terms for terms in TERMS}
    gemma, apache, llama = (by_name[name] for name in ("Gemma Terms of Use", "Apache-2.0", "Llama 2 Community License"))
    assert gemma.notice == (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
    )
    assert "ai.google.dev/gemma/prohibited_use_policy" in gemma.restrictions[0]
    assert llama.notice.endswith("Copyright (c) Meta Platforms, Inc. All Rights Reserved.")
    assert "700 million" in llama.restrictions[2]
    assert "improve another large language model" in llama.restrictions[1]
    assert (gemma.openness, apache.openness, llama.openness) == ("open weights", "open source", "open weights")
    assert (apache.notice, apache.restrictions) == ("", ())


def test_name_of_a_licence_is_no_copy_of_it():
    for terms in TERMS:
        assert not is_copy(f"{terms.licence.name} {terms.licence.url} {terms.notice}", terms)


def test_copy_of_the_terms_in_html_is_recognised(starter_path):
    from gemcut.hub.starter import copy_of_gemma_terms

    copy = copy_of_gemma_terms()
    assert copy is not None
    text = copy.read_text(encoding="utf-8")
    assert [terms.licence for terms in TERMS if is_copy(text, terms)] == [GEMMA_TERMS]


def test_terms_without_restrictions_promise_none(caches, capsys):
    show_terms_once(APACHE_2, "hf:a/b")
    assert capsys.readouterr().err == (
        "hf:a/b is provided under and subject to the Apache-2.0 found at "
        "https://www.apache.org/licenses/LICENSE-2.0. Using it means accepting them. This notice is shown once.\n"
    )
