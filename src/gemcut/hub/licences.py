"""Licences: what each allows and asks for, the published models under it, and its terms shown to the user once.

Which licence a model at hand comes under is found in licence_finding.py; what has to travel with it, in duties.py.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import sys
from pathlib import Path

from gemcut.config import PUBLISHED, Licence
from gemcut.config.published import APACHE_2, GEMMA_TERMS, LLAMA_2_LICENCE
from gemcut.files import atomic_write_text
from gemcut.hub.cache import cache_folder, make_cache_folder


@dataclasses.dataclass(frozen=True)
class Terms:
    """A licence that Gemcut knows the duties of.

    Attributes:
        licence: Name and address.
        identifiers: How model cards and GGUF files call it, the usual one first.
        openness: "open source" or "open weights".
        allowed: What one may do with the model, in a line.
        marks: Words that together occur in a copy of its text and hardly elsewhere.
        notice: The sentence that a text file "Notice" must hold; empty where none is asked for.
        restrictions: What recipients have to be told, in sentences.
        told: Words that a text which tells them holds, whoever wrote it.
    """

    licence: Licence
    identifiers: tuple[str, ...]
    openness: str
    allowed: str
    marks: tuple[str, ...]
    notice: str = ""
    restrictions: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


# Longer than the name of any licence; it is printed, and names a file.
_MAX_NAME = 80

# Source: the licences' texts: Gemma Terms of Use of 2025-03-24 (sections 3.1 and 3.2), Apache License 2.0 (section 4),
# Llama 2 Community License of 2023-07-18 (sections 1.b and 2).
TERMS = (
    Terms(
        GEMMA_TERMS,
        ("gemma", "gemma-terms-of-use"),
        "open weights",
        "any use but those its Prohibited Use Policy names, commercial ones included; "
        "passing on takes a copy of the terms, a Notice, the use restrictions and a record of changes",
        ("Gemma Terms of Use", "Model Derivatives", "DISCLAIMER OF WARRANTY"),
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        (
            "Use is subject to the restrictions in section 3.2 of the Gemma Terms of Use: nothing that the Gemma "
            "Prohibited Use Policy at ai.google.dev/gemma/prohibited_use_policy names, and nothing unlawful.",
            "Whoever passes this model on, or one made from it or from its output to behave like it, has to make these "
            "restrictions part of the agreement with the recipients, tell them so, and give them a copy of the terms.",
        ),
        ("ai.google.dev/gemma/prohibited_use_policy",),
    ),
    Terms(
        APACHE_2,
        ("apache-2.0", "apache 2.0", "apache license 2.0"),
        "open source",
        "any use; passing on takes a copy of the licence, the notices that came with it and a statement of changes",
        ("Apache License", "Version 2.0, January 2004", "Grant of Copyright License"),
    ),
    Terms(
        LLAMA_2_LICENCE,
        ("llama2", "llama-2-community-license"),
        "open weights",
        "use within its Acceptable Use Policy, by who had at most 700 million monthly users in June 2023, and not to "
        "improve other language models; passing on takes a copy of the licence and a Notice",
        ("LLAMA 2 COMMUNITY LICENSE AGREEMENT", "700 million", "Acceptable Use Policy"),
        "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. "
        "All Rights Reserved.",
        (
            "Use is subject to the Acceptable Use Policy at ai.meta.com/llama/use-policy.",
            "Neither this model nor its output may be used to improve another large language model, Llama 2 and its "
            "derivatives excepted.",
            "Whoever had more than 700 million monthly active users in the month before 18 July 2023 needs a licence "
            "from Meta.",
        ),
        ("ai.meta.com/llama/use-policy", "improve", "700 million"),
    ),
)

# owner or bucket | names below it | licence. The models of the Gemma Terms' appendix, as Google and Keras name their
# repositories; Gemma 4 is under Apache-2.0. A name that no row matches, as one of a later model, has no known licence.
_FAMILIES = (
    (
        "google",
        r"gemma(-(2b|7b|1\.1|2|3|3n|scope|aps)(-.*)?)?|"
        r"(code|function|recurrent|data|vault|translate)gemma(-.*)?|(shield|t5)gemma(-.*)?|paligemma2?(-.*)?|"
        r"embeddinggemma(-300m.*)?",
        GEMMA_TERMS,
    ),
    ("google", r"gemma-4(-.*)?", APACHE_2),
    (
        "keras",
        r"(code_?|shield|vault_?|function[_-]?)?gemma(2|3|3n)?(_.*)?|embedding_gemma3_300m",
        GEMMA_TERMS,
    ),
    ("keras", r"gemma4(_.*)?", APACHE_2),
    ("gemma-data", r"checkpoints/gemma(2|3|3n)-.*", GEMMA_TERMS),
    ("gemma-data", r"checkpoints/gemma4-.*", APACHE_2),
    ("meta-llama", r"llama-2-(7|13|70)b(-.*)?", LLAMA_2_LICENCE),
    ("mistralai", r"mistral-7b-(instruct-)?v0\.[123]", APACHE_2),
)


def terms_of(licence: Licence | None) -> Terms | None:
    """What Gemcut knows of a licence; None for one that it does not know."""
    return next((terms for terms in TERMS if terms.licence == licence), None)


def licence_named(text: str | None) -> Licence | None:
    """The known licence that a model card or GGUF file calls `text`."""
    name = (text or "").strip().lower()
    return next((terms.licence for terms in TERMS if name in (*terms.identifiers, terms.licence.name.lower())), None)


def licence_of_published(name: str) -> Licence | None:
    """The licence of a published model, by its name, ORG/REPO or Kaggle handle; None for one the table lacks."""
    name = name.strip().removeprefix("https://huggingface.co/").strip("/")
    for model in PUBLISHED.values():
        if name.lower() in (model.name, model.huggingface.lower(), model.kaggle):
            return model.licence
    owner, _, rest = name.lower().partition("/")
    family = rest.partition("/")[0]
    for whose, names, licence in _FAMILIES:
        if owner == whose and (re.fullmatch(names, family) or re.fullmatch(names, rest)):
            return licence
    return None


def licence_stated(name: str, stated: str | None, link: str | None) -> Licence | None:
    """The licence of a repository by its name, else by what its model card states; None when neither tells."""
    known = licence_of_published(name) or licence_named(stated)
    if known or not stated:
        return known
    stated = "".join(character for character in stated[:_MAX_NAME] if character.isprintable())
    return Licence(stated, link if link and "://" in link else f"https://huggingface.co/{name}")


def is_copy(text: str, terms: Terms) -> bool:
    """Whether a text holds the licence itself, not only its name."""
    words = flat(text)
    return all(flat(mark) in words for mark in terms.marks)


def flat(text: str) -> str:
    """A text without regard to line breaks, runs of spaces, HTML tags and case."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split()).lower()


def show_terms_once(licence: Licence, what: str, copy: Path | None = None) -> None:
    """Tell on standard error which terms `what` comes under, unless this cache records that it was told.

    Args:
        licence: The terms.
        what: The model, in words that begin a sentence.
        copy: A copy of the terms on this machine; None when there is none.

    Raises:
        GemcutError: the record cannot be written.
    """
    record = cache_folder() / "licences" / (re.sub(r"\W+", "-", licence.name.lower()) + ".json")
    if record.is_file():
        return
    where = licence.url if copy is None else f"{licence.url} (a copy: {copy})"
    terms = terms_of(licence)
    restricted = ", their use restrictions included" if terms and terms.restrictions else ""
    print(  # noqa: T201
        f"{what} is provided under and subject to the {licence.name} found at {where}. Using it means accepting "
        f"them{restricted}. This notice is shown once.",
        file=sys.stderr,
    )
    make_cache_folder("licences")
    shown = {"licence": licence.name, "url": licence.url, "what": what, "shown": _now()}
    atomic_write_text(record, json.dumps(shown, indent=2) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
