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

from wordings import say

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
_ENDINGS = (
    "That is all.", "Is there more I can do for you?", "The end.", "Thank you for reading.", "Have a nice day!",
    "What do you think?", "Peace.", "I hope this helps.", "Let me know if you want more.", "That's it, folks!",
    "Do you have another question?", "Over and out.", "And so it goes.", "Until next time!", "Yours truly",
    "Can I be of more help?", "Stay curious.", "This is where it ends.", "Now it is your turn.", "Enough said!",
)  # fmt: skip
_FREQUENT = (
    "very", "amazing", "important", "because", "always", "never", "people", "great", "today", "good", "money",
    "really", "life", "home", "world", "time", "best", "love", "help", "need",
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


def _listed(chosen: list[str], draw: random.Random) -> str:
    """Words as a person lists them: bare or quoted, with commas or "and"."""
    quote = draw.choice(("", "", "'", '"'))
    *front, last = [f"{quote}{word}{quote}" for word in chosen]
    return draw.choice((", ", " and ")).join((", ".join(front), last) if front else (last,))


# Content: the answer stays as it is or is cut, the wish is made to fit it.
def _at_least_words(plain: Plain, draw: random.Random) -> Wish:
    text = plain.answer if plain.other is None or draw.random() < 0.4 else f"{plain.answer}\n\n{plain.other}"
    count = len(words(text))
    floor = max(10, (count - draw.randrange(1, 25)) // 10 * 10)
    if floor >= count:
        raise ValueError("too short")
    return say("at_least_words", draw, n=floor), text


def _at_most_words(plain: Plain, draw: random.Random) -> Wish:
    ceiling = (len(words(plain.answer)) + draw.randrange(10, 40)) // 10 * 10
    return say("at_most_words", draw, n=ceiling), plain.answer


def _few_sentences(plain: Plain, draw: random.Random) -> Wish:
    kept = sentences(plain.answer)[: draw.randrange(1, 5)]
    return say("few_sentences", draw, n=len(kept) + draw.randrange(1, 3)), " ".join(kept)


def _many_sentences(plain: Plain, draw: random.Random) -> Wish:
    floor = len(sentences(plain.answer)) - draw.randrange(0, 3)
    if floor < 2:
        raise ValueError("too short")
    return say("many_sentences", draw, n=floor), plain.answer


def _with_words(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(1, 4))
    return say("with_words", draw, listed=_listed(chosen, draw)), plain.answer


def _new_words(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample([word for word in _UNUSUAL if word not in plain.answer.lower()], draw.randrange(1, 4))
    more = (f"It makes me think of {' and '.join(chosen)}.", f"And then there is the matter of {', '.join(chosen)}.")
    text = draw.choice((f"{plain.answer} {draw.choice(more)}", f"{draw.choice(more)} {plain.answer}"))
    return say("with_words", draw, listed=_listed(chosen, draw)), text


def _new_word_often(plain: Plain, draw: random.Random) -> Wish:
    word, count = draw.choice([word for word in _UNUSUAL if word not in plain.answer.lower()]), draw.randrange(2, 6)
    more = ", then ".join([f"First {word}", *[f"{word} again"] * (count - 1)])
    return say("word_often", draw, word=_listed([word], draw), n=count), f"{plain.answer} {more}."


def _word_often(plain: Plain, draw: random.Random) -> Wish:
    word, count = _key_words(plain.answer).most_common(1)[0]
    return say("word_often", draw, word=_listed([word], draw), n=count), plain.answer


def _word_seldom(plain: Plain, draw: random.Random) -> Wish:
    word, count = draw.choice(_key_words(plain.answer).most_common(4))
    return say("word_seldom", draw, word=_listed([word], draw), n=count + draw.randrange(1, 4)), plain.answer


def _without_words(plain: Plain, draw: random.Random) -> Wish:
    free = [word for word in _FREQUENT if word not in plain.answer.lower()]
    chosen = draw.sample(free, draw.randrange(1, 4))
    return say("without_words", draw, listed=_listed(chosen, draw)), plain.answer


def _without_own_word(plain: Plain, draw: random.Random) -> Wish:
    """A word that the answer would have had: the sentences with it are left out."""
    word = draw.choice(sorted(_key_words(plain.answer)))
    kept = [part for part in sentences(plain.answer) if word not in part.lower()]
    if len(kept) < 2:
        raise ValueError("nothing would be left")
    return say("without_words", draw, listed=_listed([word], draw)), " ".join(kept)


def _letter_often(plain: Plain, draw: random.Random) -> Wish:
    letter = draw.choice("aeinorstl")
    floor = max(1, plain.answer.lower().count(letter) - draw.randrange(0, 4))
    return say("letter_often", draw, letter=letter, n=floor), plain.answer


def _letter_seldom(plain: Plain, draw: random.Random) -> Wish:
    letter = draw.choice("jkqvwxzbyp")
    ceiling = plain.answer.lower().count(letter) + draw.randrange(1, 5)
    return say("letter_seldom", draw, letter=letter, n=ceiling), plain.answer


def _no_commas(plain: Plain, draw: random.Random) -> Wish:
    return say("no_commas", draw), plain.answer.replace(",", "")


# Layout: the answer is laid out as wished.
def _bullets(plain: Plain, draw: random.Random) -> Wish:
    points = sentences(plain.answer)[: draw.randrange(2, 7)]
    if len(points) < 2:
        raise ValueError("too short")
    return say("bullets", draw, n=len(points)), "\n".join(f"* {point}" for point in points)


def _title(plain: Plain, draw: random.Random) -> Wish:
    wish = say("title", draw, title=draw.choice(("poem of joy", "my title", "a good day", "Title")))
    return wish, f"<<{plain.title}>>\n\n{plain.answer}"


def _highlights(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(1, 5))
    text = plain.answer
    for word in chosen:
        text = re.sub(rf"\b({word})\b", r"*\1*", text, count=1, flags=re.IGNORECASE)
    return say("highlights", draw, n=len(chosen)), text


def _starred_parts(plain: Plain, draw: random.Random) -> Wish:
    parts = sentences(plain.answer)
    count = draw.randrange(2, max(3, len(parts) + 1))
    if len(parts) < count or "*" in plain.answer:
        raise ValueError("too short")
    text = " ".join([*(f"*{part}*" for part in parts[:count]), *parts[count:]])
    return say("highlights", draw, n=count), text


def _paragraphs(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 6))
    return say("paragraphs", draw, n=len(parts)), "\n\n***\n\n".join(parts)


def _blank_lines(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 6))
    return say("blank_lines", draw, n=len(parts)), "\n\n".join(parts)


def _paragraph_start(plain: Plain, draw: random.Random) -> Wish:
    parts = _split(plain.answer, draw.randrange(2, 6))
    place, word = draw.randrange(len(parts)), draw.choice(_UNUSUAL)
    parts[place] = f"{word[0].upper()}{word[1:]} comes first here. {parts[place]}"
    return say("paragraph_start", draw, n=len(parts), place=place + 1, word=word), "\n\n".join(parts)


def _sections(plain: Plain, draw: random.Random) -> Wish:
    parts, name = _split(plain.answer, draw.randrange(2, 6)), draw.choice(("Section", "SECTION", "PART", "Chapter"))
    text = "\n\n".join(f"{name} {number}\n{part}" for number, part in enumerate(parts, 1))
    return say("sections", draw, n=len(parts), name=name), text


def _form(plain: Plain, draw: random.Random) -> Wish:
    names = draw.sample(_BLANKS, draw.randrange(1, 13))
    blanks = "\n".join(f"{name[0].upper()}{name[1:]}: [{name}]" for name in names)
    text = draw.choice((f"{blanks}\n\n{plain.answer}", f"{plain.answer}\n\n{blanks}"))
    return say("form", draw, n=len(names), blank=draw.choice(_BLANKS)), text


def _as_json(plain: Plain, draw: random.Random) -> Wish:
    points = sentences(plain.answer)[: draw.randrange(1, 6)]
    key = draw.choice(("text", "answer", "content", "points"))
    fields = {"title": plain.title, key: points if key == "points" else " ".join(points)}
    text = json.dumps(fields, ensure_ascii=False, indent=draw.choice((None, 2)))
    return say("json", draw), f"```json\n{text}\n```" if draw.random() < 0.5 else text


def _two_answers(plain: Plain, draw: random.Random) -> Wish:
    if plain.other is None:
        raise ValueError("there is one answer only")
    kept = [" ".join(sentences(text)[: draw.randrange(2, 6)]) for text in (plain.answer, plain.other)]
    return say("two_answers", draw), f"{kept[0]}\n\n******\n\n{kept[1]}"


# Around it: case, and what stands before and behind.
def _lower(plain: Plain, draw: random.Random) -> Wish:
    return say("lower", draw), plain.answer.lower()


def _upper(plain: Plain, draw: random.Random) -> Wish:
    return say("upper", draw), plain.answer.upper()


def _some_capitals(plain: Plain, draw: random.Random) -> Wish:
    chosen = draw.sample(sorted(_key_words(plain.answer)), draw.randrange(2, 6))
    text = plain.answer
    for word in chosen:
        text = re.sub(rf"\b{word}\b", word.upper(), text, count=1, flags=re.IGNORECASE)
    kind = draw.choice(("some_capitals", "some_capitals", "few_capitals"))
    return say(kind, draw, n=len(chosen) + (kind == "few_capitals") * draw.randrange(3, 9)), text


def _quoted(plain: Plain, draw: random.Random) -> Wish:
    return say("quoted", draw), '"' + plain.answer.replace('"', "'") + '"'


def _ends_with(plain: Plain, draw: random.Random) -> Wish:
    ending = draw.choice(_ENDINGS)
    return say("ends_with", draw, ending=ending), f"{plain.answer}{draw.choice((' ', chr(10) * 2))}{ending}"


def _postscript(plain: Plain, draw: random.Random) -> Wish:
    mark = draw.choice(("P.S.", "P.P.S"))
    *body, last = sentences(plain.answer)
    if not body:
        raise ValueError("too short")
    return say("postscript", draw, mark=mark), f"{' '.join(body)}\n\n{mark} {last}"


def _repeats(plain: Plain, draw: random.Random) -> Wish:
    return say("repeats", draw), f"{plain.request}\n\n{plain.answer}"


CONTENT: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _at_least_words, _at_least_words, _at_most_words, _few_sentences, _many_sentences, _with_words, _with_words,
    _without_words, _without_own_word, _without_own_word, _word_often, _word_seldom, _letter_often, _letter_seldom,
    _no_commas, _no_commas, _no_commas, _new_words, _new_words, _new_words, _new_word_often, _new_word_often,
)  # fmt: skip
LAYOUT: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _bullets, _bullets, _title, _highlights, _starred_parts, _starred_parts, _paragraphs, _paragraphs, _blank_lines,
    _paragraph_start, _sections, _as_json, _as_json, _two_answers, _form, _form,
)  # fmt: skip
AROUND: tuple[Callable[[Plain, random.Random], Wish], ...] = (
    _lower, _lower, _lower, _upper, _upper, _some_capitals, _quoted, _ends_with, _ends_with, _ends_with, _postscript,
    _repeats,
)  # fmt: skip
# These would undo one another: what a wish of the left changes, one of the right asks for.
_TAIL = {"_postscript", "_repeats"}
_WHOLE = {"_bullets", "_as_json", "_two_answers"}  # those keep a part of the answer
_APART = {
    "_no_commas": {"_as_json", "_ends_with", "_repeats", "_form"},
    "_few_sentences": {
        *_WHOLE, "_paragraphs", "_blank_lines", "_sections", "_repeats", "_ends_with", "_title", "_paragraph_start",
        "_form",
    },
    "_many_sentences": {*_WHOLE, "_postscript"},
    "_at_least_words": _WHOLE,
    "_at_most_words": {"_two_answers", "_repeats", "_title", "_as_json", "_sections", "_form", "_paragraph_start"},
    "_with_words": _WHOLE, "_word_often": _WHOLE, "_new_words": _WHOLE, "_new_word_often": _WHOLE,
    "_word_seldom": {"_two_answers", "_repeats", "_title", "_form"},
    "_letter_often": {*_WHOLE, "_upper"},
    "_letter_seldom": {
        "_as_json", "_upper", "_repeats", "_ends_with", "_title", "_form", "_paragraph_start", "_sections",
        "_two_answers",
    },
    "_without_words": {"_ends_with", "_repeats", "_title", "_form", "_paragraph_start", "_two_answers"},
    "_without_own_word": {"_ends_with", "_repeats", "_title", "_form", "_paragraph_start", "_two_answers"},
    "_starred_parts": _TAIL, "_paragraph_start": _TAIL, "_blank_lines": _TAIL, "_title": _TAIL, "_two_answers": _TAIL,
    "_form": {*_TAIL, "_quoted", "_ends_with"},
    "_as_json": {*_TAIL, "_quoted", "_upper", "_lower", "_ends_with", "_some_capitals"},
    "_bullets": {"_postscript"}, "_paragraphs": {"_postscript"}, "_highlights": {"_postscript"},
    "_sections": {"_postscript", "_lower", "_upper"},
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
    return asked(plain.request, said, draw, first="_repeats" not in names), answer


def asked(request: str, said: list[str], draw: random.Random, first: bool = True) -> str:
    """A request and wishes as one text: behind it, continuing it, or (where that may be) in front of it."""
    inline = [text for text in said if text[0].islower()]
    own = [text if text.endswith((".", "!", "?", '"')) else f"{text}." for text in said if not text[0].islower()]
    if inline and (len(inline) > 1 or request[-1] not in ".?" or "\n" in request):
        raise ValueError("these do not continue the request")
    for text in inline:
        request = f"{request[:-1]}{draw.choice((' ', ', '))}{text}{request[-1]}"
    draw.shuffle(own)
    if draw.random() < 0.15 and first:
        return " ".join([*own, request])
    return draw.choice((" ", " ", "\n\n", "\n")).join([request, *own])


def _split(text: str, count: int) -> list[str]:
    found = sentences(text)
    if len(found) < count:
        raise ValueError("too short")
    bounds = [round(index * len(found) / count) for index in range(count + 1)]
    return [" ".join(found[first:last]) for first, last in itertools.pairwise(bounds)]
