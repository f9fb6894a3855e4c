"""Wishes about the form of an answer, and answers that fulfil them: made from a plain answer, checked before use.

The kinds are those that people ask for (case, length, layout, words to use or avoid). The wordings are our own and the
texts come from elsewhere, so nothing of a benchmark is learnt; `write_data.py` checks that against IFEval's prompts.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable

Wish = tuple[str, str]  # how the wish is said, and the answer that fulfils it


@dataclasses.dataclass(frozen=True)
class Plain:
    """A request with a plain answer.

    Attributes:
        request: What is asked.
        answer: The answer as it is.
        title: A title for it.
        other: Another answer to the same request; None where there is none.
    """

    request: str
    answer: str
    title: str
    other: str | None = None


_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'A-Z0-9])")
_WORD = re.compile(r"[A-Za-z]{4,}")
_UNUSUAL = (
    "lantern", "marble", "orchard", "compass", "thunder", "velvet", "harbor", "engine", "feather", "copper", "window",
    "castle", "ladder", "button", "pepper", "signal", "meadow", "basket", "mirror", "rocket", "saddle", "timber",
    "whistle", "anchor", "blanket", "cradle", "dagger", "emerald", "furnace", "glacier", "hammer", "island", "jungle",
    "kettle", "library", "magnet", "needle", "oyster", "pocket", "quarry", "ribbon", "silver", "tunnel", "umbrella",
    "valley", "wagon", "yellow", "zebra",
)  # fmt: skip
_BLANKS = (
    "name", "address", "date", "city", "phone number", "email", "company", "school", "time", "price", "place",
    "signature", "title", "country", "age", "street",
)  # fmt: skip
_COMMON = frozenset(
    "that this with from they have were been their there which would could about when what your will".split()
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, line breaks being spaces."""
    return [part.strip() for part in _SENTENCE.split(" ".join(text.split())) if part.strip()]


def words(text: str) -> list[str]:
    """The words of a text."""
    return re.findall(r"\w+", text)


def _key_words(text: str) -> Counter[str]:
    return Counter(word for word in map(str.lower, _WORD.findall(text)) if word not in _COMMON)


# Content: the answer stays as it is, the wish is made to fit it.
def _at_least_words(plain: Plain, draw: random.Random) -> Wish:
    count = len(words(plain.answer))
    floor = max(10, (count - draw.randrange(1, 25)) // 10 * 10)
    if floor >= count:
        raise ValueError("too short")
    says = (
        f"Use {floor} words or more.",
        f"It has to be at least {floor} words long.",
        f"No fewer than {floor} words please.",
    )
    return draw.choice(says), plain.answer


def _at_most_words(plain: Plain, draw: random.Random) -> Wish:
    ceiling = (len(words(plain.answer)) + draw.randrange(10, 40)) // 10 * 10
    says = (f"Keep it under {ceiling} words.", f"Use fewer than {ceiling} words.", f"Stay below {ceiling} words.")
    return draw.choice(says), plain.answer


def _few_sentences(plain: Plain, draw: random.Random) -> Wish:
    kept = sentences(plain.answer)[: draw.randrange(1, 5)]
    limit = len(kept) + draw.randrange(1, 3)
    says = (
        f"Use fewer than {limit} sentences.",
        f"I want less than {limit} sentences.",
        f"Say it in under {limit} sentences.",
    )
    return draw.choice(says), " ".join(kept)


def _many_sentences(plain: Plain, draw: random.Random) -> Wish:
    count = len(sentences(plain.answer))
    floor = count - draw.randrange(0, 3)
    if floor < 2:
        raise ValueError("too short")
    says = (f"Use {floor} sentences or more.", f"It should have at least {floor} sentences.")
    return draw.choice(says), plain.answer


def _with_words(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(1, 4))
    listed = ", ".join(f'"{word}"' for word in chosen) if draw.random() < 0.5 else ", ".join(chosen)
    says = (f"Use these words: {listed}.", f"The words {listed} have to be in it.", f"Work in the following: {listed}.")
    return draw.choice(says), plain.answer


def _new_words(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample([word for word in _UNUSUAL if word not in plain.answer.lower()], draw.randrange(1, 4))
    listed = draw.choice((" and ".join(chosen), " and ".join(f"'{word}'" for word in chosen), ", ".join(chosen)))
    says = (
        f"Your answer has to include the keywords {listed}.",
        f"Please use {listed} somewhere in it.",
        f"Make sure that {listed} can be found in your text.",
        f"Include these keywords: {listed}.",
    )
    more = (f"It makes me think of {' and '.join(chosen)}.", f"And then there is the matter of {', '.join(chosen)}.")
    return draw.choice(says), f"{plain.answer} {draw.choice(more)}"


def _new_word_often(plain: Plain, draw: random.Random) -> Wish:
    word, count = draw.choice([word for word in _UNUSUAL if word not in plain.answer.lower()]), draw.randrange(2, 6)
    says = (
        f"Let the word {word} appear {count} times or more.",
        f"Mention '{word}' at least {count} times please.",
        f"I would like to read the word {word} no fewer than {count} times.",
    )
    more = ", then ".join([f"First {word}", *[f"{word} again"] * (count - 1)])
    return draw.choice(says), f"{plain.answer} {more}."


def _without_words(plain: Plain, draw: random.Random) -> Wish:
    pool = (
        "very",
        "amazing",
        "important",
        "because",
        "always",
        "never",
        "people",
        "great",
        "today",
        "good",
        "money",
        "really",
    )
    free = [word for word in pool if word not in plain.answer.lower()]
    chosen = draw.sample(free, draw.randrange(1, 4))
    listed = ", ".join(chosen)
    says = (
        f"Do not write the words {listed}.",
        f"Avoid these words: {listed}.",
        f"The following are forbidden: {listed}.",
    )
    return draw.choice(says), plain.answer


def _word_often(plain: Plain, draw: random.Random) -> Wish:
    word, count = _key_words(plain.answer).most_common(1)[0]
    says = (f"Say {word} {count} times or more.", f'The word "{word}" has to come at least {count} times.')
    return draw.choice(says), plain.answer


def _letter_often(plain: Plain, draw: random.Random) -> Wish:
    letter = draw.choice("aeinorstl")
    count = plain.answer.lower().count(letter)
    floor = max(1, count - draw.randrange(0, 4))
    says = (
        f"The letter {letter} has to occur {floor} times at least.",
        f"Use the letter {letter} no fewer than {floor} times.",
    )
    return draw.choice(says), plain.answer


def _no_commas(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Write it without commas.",
        "Please make sure that your answer has no commas at all.",
        "Refrain from commas in your whole response.",
        "You are not to use the comma.",
        "No commas anywhere.",
        "Leave out every comma.",
        "Commas are not allowed.",
        "Never use a comma.",
    )
    return draw.choice(says), plain.answer.replace(",", "")


# Layout: the answer is laid out as wished.
def _bullets(plain: Plain, draw: random.Random) -> Wish:
    points = sentences(plain.answer)[: draw.randrange(2, 7)]
    if len(points) < 2:
        raise ValueError("too short")
    says = (
        f"Answer in exactly {len(points)} bullet points, each beginning with an asterisk:\n* like this",
        f"Make it a list of exactly {len(points)} bullets (* point).",
        f"Use {len(points)} markdown bullet points, no more and no fewer. A bullet: * text",
    )
    return draw.choice(says), "\n".join(f"* {point}" for point in points)


def _title(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Put a title in double angle brackets on top, as in <<Title>>.",
        "It needs a title, written <<like this>>.",
        "Begin with a title inside of << and >>.",
    )
    return draw.choice(says), f"<<{plain.title}>>\n\n{plain.answer}"


def _highlights(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(1, 5))
    text = plain.answer
    for word in chosen:
        text = re.sub(rf"\b({word})\b", r"*\1*", text, count=1, flags=re.IGNORECASE)
    count = len(chosen)
    says = (
        f"Put at least {count} parts of it in *asterisks*.",
        f"Emphasise {count} or more words with markdown, *so*.",
        f"Mark no fewer than {count} phrases with single stars, as in *a phrase*.",
    )
    return draw.choice(says), text


def _paragraphs(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 5))
    says = (
        f"Write {len(parts)} paragraphs with a line of three stars between them: ***",
        f"Divide it into {len(parts)} paragraphs by the markdown divider ***.",
    )
    return draw.choice(says), "\n\n***\n\n".join(parts)


def _blank_lines(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 5))
    says = (
        f"Write {len(parts)} paragraphs with an empty line between two.",
        f"I want exactly {len(parts)} paragraphs, parted by two line breaks.",
    )
    return draw.choice(says), "\n\n".join(parts)


def _sections(plain: Plain, draw: random.Random) -> Wish:
    parts, name = _split(plain.answer, draw.randrange(2, 5)), draw.choice(("Section", "SECTION", "PART", "Chapter"))
    says = (
        f"It must have {len(parts)} sections, each headed {name} X, as in:\n{name} 1\ntext",
        f"Divide it into {len(parts)} parts that begin with {name} 1, {name} 2 and so on.",
    )
    return draw.choice(says), "\n\n".join(f"{name} {number}\n{part}" for number, part in enumerate(parts, 1))


def _paragraph_start(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 5))
    place, word = draw.randrange(len(parts)), draw.choice(_UNUSUAL)
    parts[place] = f"{word[0].upper()}{word[1:]} comes first here. {parts[place]}"
    says = (
        f"There should be {len(parts)} paragraphs, an empty line between them, and number {place + 1} starts with the "
        f"word {word}.",
        f"Write {len(parts)} paragraphs, separated by blank lines. Begin paragraph {place + 1} with {word}.",
    )
    return draw.choice(says), "\n\n".join(parts)


def _form(plain: Plain, draw: random.Random) -> Wish:
    names = draw.sample(_BLANKS, draw.randrange(3, 13))
    says = (
        f"Your text needs at least {len(names)} placeholders in square brackets, for example [{draw.choice(_BLANKS)}].",
        f"Please leave {len(names)} or more blanks, written as [{draw.choice(_BLANKS)}].",
        f"Make sure to have no fewer than {len(names)} bracketed placeholders like [{draw.choice(_BLANKS)}].",
    )
    blanks = "\n".join(f"{name[0].upper()}{name[1:]}: [{name}]" for name in names)
    return draw.choice(says), draw.choice((f"{blanks}\n\n{plain.answer}", f"{plain.answer}\n\n{blanks}"))


def _starred_parts(plain: Plain, draw: random.Random) -> Wish:
    parts = sentences(plain.answer)
    count = draw.randrange(2, max(3, len(parts) + 1))
    if len(parts) < count or "*" in plain.answer:
        raise ValueError("too short")
    says = (
        f"Highlight at least {count} parts of your answer in markdown, like *this part*.",
        f"Please have {count} or more passages between single asterisks, i.e. *passage*.",
        f"Your answer needs {count} highlighted passages at least; write them *so*.",
    )
    return draw.choice(says), " ".join([*(f"*{part}*" for part in parts[:count]), *parts[count:]])


def _as_json(plain: Plain, draw: random.Random) -> Wish:
    says = ("Give me JSON and nothing else.", "The whole answer must be one JSON object.", "Format all of it as JSON.")
    fields = {"title": plain.title, draw.choice(("text", "answer", "content")): " ".join(plain.answer.split())}
    text = json.dumps(fields, ensure_ascii=False, indent=draw.choice((None, 2)))
    return draw.choice(says), f"```json\n{text}\n```" if draw.random() < 0.5 else text


def _two_answers(plain: Plain, draw: random.Random) -> Wish:
    if plain.other is None:
        raise ValueError("there is one answer only")
    says = (
        "Give two different answers with a line of six stars between them: ******",
        "I want two versions. Separate them by ****** and nothing else.",
    )
    return draw.choice(says), f"{plain.answer}\n\n******\n\n{plain.other}"


def _placeholders(plain: Plain, draw: random.Random) -> Wish:
    text, count = plain.answer, 0
    for pattern, name in (
        (r"\b\d[\d,.]*\b", "number"),
        (r"(?<=[a-z] )[A-Z][a-z]+", "name"),
        (r"\b(?:town|city|house|school)\b", "place"),
    ):
        text, found = re.subn(pattern, f"[{name}]", text, count=2)
        count += found
    if not count:
        raise ValueError("nothing to leave open")
    says = (
        f"Leave at least {count} things open in square brackets, such as [date].",
        f"Use {count} or more placeholders like [address].",
    )
    return draw.choice(says), text


# Around it: case, and what stands before and behind.
def _lower(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Use small letters only.",
        "Your whole response should be in lowercase letters, without a single capital letter.",
        "Please answer in English and in lower case only; capital letters are not wanted.",
        "Make sure that all of your letters are lowercase.",
        "Everything in lowercase please, no capitals at all.",
        "Do not use any capital letters.",
        "Write it all in lower case.",
    )
    return draw.choice(says), plain.answer.lower()


def _upper(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Use capital letters only.",
        "Your whole response should be in English capital letters.",
        "Please answer in all caps; lowercase letters are not wanted.",
        "Make sure that every letter of your answer is a capital one.",
        "WRITE IT ALL IN CAPITALS.",
        "Everything has to be in upper case.",
        "Do not use small letters.",
    )
    return draw.choice(says), plain.answer.upper()


def _some_capitals(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(2, 6))
    text = plain.answer
    for word in chosen:
        text = re.sub(rf"\b{word}\b", word.upper(), text, count=1, flags=re.IGNORECASE)
    count = len(chosen)
    says = (f"Write at least {count} words in ALL CAPITALS.", f"Stress {count} or more words by capital letters.")
    return draw.choice(says), text


def _quoted(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Put double quotation marks around all of it.",
        "Please wrap your whole response in double quotation marks.",
        "The whole answer has to stand in double quotes.",
        'Begin and end with ".',
    )
    return draw.choice(says), '"' + plain.answer.replace('"', "'") + '"'


def _ends_with(plain: Plain, draw: random.Random) -> Wish:
    ending = draw.choice(
        (
            "That is all.",
            "Is there more I can do for you?",
            "The end.",
            "Thank you for reading.",
            "Have a nice day!",
            "What do you think?",
            "Peace.",
        )
    )
    says = (
        f"The last words must be: {ending}",
        f'Finish with "{ending}" and write nothing behind it.',
        f"End it with exactly this: {ending}",
    )
    return draw.choice(says), f"{plain.answer} {ending}"


def _postscript(plain: Plain, draw: random.Random) -> Wish:
    mark = draw.choice(("P.S.", "P.P.S"))
    *body, last = sentences(plain.answer)
    if not body:
        raise ValueError("too short")
    says = (f"Close with a postscript that begins with {mark}", f"At the end, add a note starting with {mark}")
    return draw.choice(says), f"{' '.join(body)}\n\n{mark} {last}"


def _repeats(plain: Plain, draw: random.Random) -> Wish:
    says = (
        "Before you answer, repeat my request word for word, without this sentence.",
        "First say my question again exactly as it is above, then answer it.",
    )
    return draw.choice(says), f"{plain.request}\n\n{plain.answer}"


CONTENT: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _at_least_words, _at_most_words, _few_sentences, _many_sentences, _with_words, _without_words, _word_often,
    _letter_often, _no_commas, _no_commas, _no_commas, _new_words, _new_words, _new_words, _new_word_often,
    _new_word_often,
)  # fmt: skip
LAYOUT: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _bullets, _title, _highlights, _paragraphs, _blank_lines, _sections, _as_json, _two_answers, _placeholders,
    _form, _form, _starred_parts, _starred_parts, _paragraph_start, _as_json,
)  # fmt: skip
AROUND: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _lower, _lower, _lower, _lower, _upper, _upper, _upper, _some_capitals, _quoted, _quoted, _ends_with,
    _postscript, _repeats,
)  # fmt: skip
# These would undo one another: what a wish of the left changes, one of the right asks for.
_APART = {
    "_no_commas": {"_as_json", "_ends_with", "_repeats", "_placeholders", "_form"},
    "_few_sentences": {
        "_as_json", "_two_answers", "_paragraphs", "_blank_lines", "_sections", "_bullets", "_repeats", "_ends_with",
        "_title", "_paragraph_start", "_form",
    },
    "_many_sentences": {"_bullets", "_as_json", "_postscript"},
    "_at_least_words": {"_bullets"},
    "_at_most_words": {"_two_answers", "_repeats", "_title", "_as_json", "_sections", "_form", "_paragraph_start"},
    "_with_words": {"_bullets", "_placeholders"},
    "_word_often": {"_bullets", "_placeholders"},
    "_new_words": {"_bullets", "_placeholders", "_as_json"},
    "_new_word_often": {"_bullets", "_placeholders", "_as_json"},
    "_starred_parts": {"_postscript", "_repeats"},
    "_paragraph_start": {"_postscript", "_repeats"},
    "_form": {"_postscript", "_repeats", "_quoted"},
    "_letter_often": {"_bullets", "_upper", "_placeholders"},
    "_without_words": {"_ends_with", "_repeats", "_title", "_form", "_paragraph_start"},
    "_two_answers": {"_postscript", "_repeats"},
    "_as_json": {"_quoted", "_upper", "_lower", "_postscript", "_ends_with", "_some_capitals", "_repeats"},
    "_bullets": {"_postscript"},
    "_title": {"_repeats", "_postscript"},
    "_paragraphs": {"_postscript"}, "_blank_lines": {"_postscript", "_repeats"},
    "_sections": {"_postscript", "_lower", "_upper"},
    "_placeholders": {"_postscript", "_upper", "_lower"},
    "_highlights": {"_postscript"},
}  # fmt: skip


def constrained(plain: Plain, draw: random.Random, num_wishes: int) -> tuple[str, str]:
    """A request with so many wishes, and an answer that fulfils them all.

    Raises:
        ValueError: the answer cannot be made so; draw again.
    """
    groups = sorted(draw.sample((0, 1, 2), num_wishes))
    chosen = [draw.choice((CONTENT, LAYOUT, AROUND)[group]) for group in groups]
    names = [wish.__name__ for wish in chosen]
    if any(second in _APART.get(first, ()) for first in names for second in names):
        raise ValueError("these wishes do not go together")
    answer, said = plain.answer, []
    for wish in chosen:
        words_, answer = wish(dataclasses.replace(plain, answer=answer), draw)
        said.append(words_)
    if draw.random() < 0.15 and "_repeats" not in names:
        return " ".join([*said, plain.request]), answer
    return " ".join([plain.request, *said]), answer


def _split(text: str, count: int) -> list[str]:
    found = sentences(text)
    if len(found) < count:
        raise ValueError("too short")
    bounds = [round(index * len(found) / count) for index in range(count + 1)]
    return [" ".join(found[first:last]) for first, last in itertools.pairwise(bounds)]
