"""What a person might ask an assistant to write, and how a base model is brought to write it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOPICS = (
    "bees", "the moon", "bicycles", "bread", "volcanoes", "the violin", "rivers", "coffee", "winter", "libraries",
    "elephants", "chess", "rainbows", "trains", "tea", "honesty", "the desert", "gardening", "whales", "sleep",
    "the printing press", "friendship", "solar power", "markets", "owls", "mountains", "cheese", "lighthouses",
    "the heart", "kites", "forests", "the compass", "patience", "soup", "clouds", "penguins", "maps", "wool",
    "public parks", "the ocean", "glass", "running", "spices", "bridges", "dreams", "the telescope", "rice", "wind",
    "paper", "school lunches", "recycling", "swimming", "foxes", "the calendar", "salt", "drums", "earthquakes",
    "apples", "cities", "photography", "kindness", "the telephone", "horses", "chocolate", "music lessons",
    "camping", "gravity", "ancient Rome", "butterflies", "the weather forecast", "storytelling", "sharks",
    "vaccines", "theatre", "fishing", "saving money", "the internet", "learning a language", "snow", "dolphins",
    "museums", "vegetables", "airports", "the human brain", "pottery", "morning routines", "electric cars",
    "football", "the alphabet", "insects", "birthdays",
)  # fmt: skip
CHARACTERS = (
    "a baker who could not taste sugar", "a clockmaker's daughter", "a lighthouse keeper",
    "two brothers and a boat", "a cat that lived in a bookshop", "a young inventor", "an old postman",
    "a girl who collected stones", "a robot that wanted a garden", "a farmer and a fox",
    "a sailor who was afraid of water", "a teacher on her first day", "a king without a castle",
    "a dog that found a key", "three friends on a mountain", "a musician in a small town",
    "a tailor and a magic thread", "a boy who talked to birds", "a doctor on a long train ride",
    "a painter of doors",
)  # fmt: skip
PURPOSES = (
    "ask for a refund of a broken kettle", "thank my neighbour for watering the plants",
    "apply for work in the library", "invite an old friend to dinner", "complain about noise at night",
    "ask my teacher for more time", "apologise for being late", "tell my landlord about the broken window",
    "congratulate a colleague on her new job", "ask for a day off next week", "welcome a new member to our club",
    "cancel my gym membership", "recommend a former student", "ask a museum about opening hours",
    "thank a doctor for her help",
)  # fmt: skip
PRODUCTS = (
    "a folding umbrella", "a reading lamp", "a new kind of lemonade", "walking shoes", "a quiet vacuum cleaner",
    "a notebook made of stone paper", "a bakery around the corner", "a bicycle repair shop", "a language course",
    "a wooden toy train", "a tea house", "a raincoat for dogs", "a desk for small rooms", "a garden tool set",
)  # fmt: skip
TASKS = (
    "keep a house plant alive", "learn to cook", "save water at home", "prepare for an exam", "sleep better",
    "make new friends", "start running", "clean a bicycle", "write a better letter", "plan a picnic", "stay calm",
    "train a puppy", "pack a suitcase", "grow tomatoes", "learn to draw", "speak in public", "wake up early",
    "read more books", "take good photographs", "save money on food", "look after old books", "paint a room",
)  # fmt: skip
NAMES = ("Anna", "Mr. Lee", "Dr. Novak", "Sam", "Mrs. Alvarez", "Peter", "Ms. Okoro", "Tom", "Julia", "Sir or Madam")
JOBS = (
    "a nurse", "a gardener", "a train driver", "an accountant", "a chef", "a librarian", "a carpenter", "a pilot",
    "a music teacher", "a baker", "a vet", "a translator", "an electrician", "a shop assistant",
)  # fmt: skip
PLACES = ("Lisbon", "Iceland", "Kyoto", "the Alps", "Cairo", "Canada", "Prague", "Peru", "Kenya", "Vienna", "Oslo")
PAIRS = (
    ("a cat", "a mouse"), ("a teacher", "a pupil"), ("a tourist", "a taxi driver"), ("two neighbours", "a lost dog"),
    ("the sun", "the moon"), ("a doctor", "a patient"), ("a father", "his daughter"), ("a robot", "its inventor"),
    ("a buyer", "a seller"), ("an old tree", "a young bird"),
)  # fmt: skip
# Of each language its ISO 639-1 code and how its texts begin; what follows is the model's own.
LANGUAGES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("languages.json").read_text())
THINGS = ("dogs", "water", "music", "winter", "bread", "cities", "forests", "schools")


@dataclasses.dataclass(frozen=True)
class Request:
    """Something to write.

    Attributes:
        text: What the person asks.
        lead: What the base model is given in front of the answer; it is not a part of it.
        opening: How the answer begins.
        title: A title that fits the answer.
        language: Of the answer.
    """

    text: str
    lead: str
    opening: str
    title: str
    language: str = "English"


def requests(seed: int, num_requests: int) -> list[Request]:
    """So many different requests, in an order that depends on the seed only."""
    found = [*_essays(), *_stories(), *_letters(), *_adverts(), *_tips(), *_verses(), *_work(), *_talks(), *_foreign()]
    random.Random(seed).shuffle(found)
    return found[:num_requests]


def _essays() -> Iterator[Request]:
    for topic in TOPICS:
        title = topic[0].upper() + topic[1:]
        verb = "are" if topic.endswith("s") and topic not in ("glass", "chess") else "is"
        yield Request(f"Write a short essay about {topic}.", f"{title}: a short essay\n\n", "", f"About {title}")
        yield Request(f"What can you tell me about {topic}?", f"{title}\n\n", f"{title} {verb}", title)
        yield Request(
            f"Explain {topic} to a child of ten.", f"{title}, explained for children\n\n", "", f"{title} for Children"
        )
        yield Request(
            f"Write a blog post about why {topic} matter{'' if verb == 'are' else 's'} to you.",
            f"Blog: why {topic} matter{'' if verb == 'are' else 's'} to me\n\n",
            "I ",
            f"Why {title} Matter" + ("" if verb == "are" else "s"),
        )


def _stories() -> Iterator[Request]:
    for who in CHARACTERS:
        title = f"The Tale of {who[0].upper()}{who[1:]}"
        yield Request(f"Tell me a story about {who}.", f"{title}\n\n", f"Once upon a time there was {who}.", title)
        yield Request(f"Write the first scene of a play about {who}.", f"{title}. A play. Scene 1.\n\n", "", title)
        yield Request(f"Write a few lines about {who}, like a poem.", f"{title}, a poem\n\n", "", title)


def _letters() -> Iterator[Request]:
    for index, purpose in enumerate(PURPOSES):
        name = NAMES[index % len(NAMES)]
        title = purpose[0].upper() + purpose[1:]
        opening = f"Dear {name},\n\nI am writing to {purpose}.".replace(" my ", " my ")
        yield Request(f"Write a letter in which I {purpose}.", "A letter\n\n", opening, title)
        yield Request(f"Help me with an email to {purpose}.", f"Subject: {title}\n\n", f"Hello {name},\n\n", title)


def _adverts() -> Iterator[Request]:
    for product in PRODUCTS:
        name = product.split(" ", 1)[1]
        title = f"The Best {name.title()}"
        yield Request(f"Write an advert for {product}.", f"Advertisement: {product}\n\n", "Introducing", title)
        yield Request(f"Write a customer's review of {product}.", f"Review of {product}: 4 of 5 stars\n\n", "I", title)


def _tips() -> Iterator[Request]:
    for task in TASKS:
        title = f"How to {task[0].upper()}{task[1:]}"
        yield Request(f"How do I {task}?", f"{title}\n\n", f"To {task},", title)
        yield Request(f"Give me advice: I want to {task}.", f"Question: how can I {task}?\n\nAnswer: ", "", title)


def _verses() -> Iterator[Request]:
    for topic in TOPICS[::3]:
        title = topic[0].upper() + topic[1:]
        yield Request(f"Write a poem about {topic}.", f"{title}\n\nA poem\n\n", "", f"Ode to {title}")
        yield Request(f"Create a riddle about {topic}.", "A riddle\n\n", "I am", f"A Riddle about {title}")
        yield Request(f"Write a song about {topic}.", f"{title} (song lyrics)\n\nVerse 1\n", "", f"The {title} Song")


def _work() -> Iterator[Request]:
    for job in JOBS:
        name = job.split(" ", 1)[1].title()
        yield Request(f"Write a resume for {job}.", f"Resume of {job}\n\n", "Summary: I am", f"Resume of a {name}")
        yield Request(f"Write a job advert for {job}.", "Job offer\n\n", f"We are looking for {job}", f"Wanted: {name}")
        yield Request(
            f"Write a cover letter for {job}.", "A cover letter\n\n", "Dear hiring manager,\n\n", f"A {name} Applies"
        )
    for place in PLACES:
        title = f"A Journey to {place[0].upper()}{place[1:]}"
        yield Request(f"Write an itinerary for a trip to {place}.", f"{title}\n\n", "On the first day", title)
        yield Request(f"Is {place} a good place to spend a holiday?", f"{title}\n\n", "Yes, because", title)


def _talks() -> Iterator[Request]:
    for one, other in PAIRS:
        title = f"{one[0].upper()}{one[1:]} and {other}"
        yield Request(f"Write a dialogue between {one} and {other}.", f"{title}. A dialogue.\n\n", "- ", title)
        yield Request(f"Write a joke about {one} and {other}.", "A joke:\n\n", f"Once {one} met {other}.", title)


def _foreign() -> Iterator[Request]:
    for language, known in LANGUAGES.items():
        for thing, opening in zip(THINGS, known["openings"], strict=True):
            asks = ("Write a short text about", "Tell me about", "Write an essay about", "What can you say about")
            text = f"{asks[len(opening + language) % len(asks)]} {thing}"
            text += "?" if text.startswith("What") else "."
            yield Request(text, f"{opening}\n\n", opening, opening, language)
