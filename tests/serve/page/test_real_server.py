"""The page against Gemcut's own server: the same names, figures and errors as the scripted one has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.native


@pytest.fixture
def server(browser: Any, start: Callable[..., Any]) -> Iterator[Any]:
    """A small random model behind a server that wants a key."""
    with start(api_keys=("secret",)) as running:
        yield running


def test_a_conversation(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(is_opened=False)
    page.goto(server.url)
    page.get_by_label("API key", exact=True).fill("secret")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Talk to tiny").wait_for()
    page.get_by_role("button", name="Settings of this conversation").click()
    page.get_by_label("Max tokens").fill("12")
    page.get_by_label("System prompt").fill("Be brief.")
    page.keyboard.press("Escape")
    for text in ("Hi", "Again"):
        page.get_by_label("Message", exact=True).fill(text)
        page.keyboard.press("Enter")
        page.locator(".answer:last-child footer").wait_for()
    figures = page.locator(".answer").last.locator(".figures").inner_text()
    assert re.search(r"tiny · native · [\d.]+ tokens/s · [\d.]+ s to first token · \d+ tokens?", figures)
    assert re.search(r"\d+ of 2,000 tokens of context", page.locator("#context").inner_text())


def test_a_stopped_answer_leaves_nothing_running(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(is_opened=False)
    page.add_init_script("sessionStorage.setItem('gemcut.api-key', 'secret')")
    page.goto(server.url)
    page.get_by_role("heading", name="Talk to tiny").wait_for()
    page.get_by_label("Message", exact=True).fill("Hi")
    page.keyboard.press("Enter")
    page.locator(".prose", has_text=re.compile(".")).wait_for()
    page.keyboard.press("Escape")
    page.locator(".figures", has_text="tokens/s").wait_for()
    server.until(lambda: server.metric("gemcut_texts_running") == 0)


def test_a_prompt_beyond_the_context_is_said_to_be_one(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(is_opened=False)
    page.add_init_script("sessionStorage.setItem('gemcut.api-key', 'secret')")
    page.goto(server.url)
    page.get_by_role("heading", name="Talk to tiny").wait_for()
    page.get_by_label("Message", exact=True).fill("many words " * 2000)
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("This conversation no longer fits the model's context.").wait_for()
