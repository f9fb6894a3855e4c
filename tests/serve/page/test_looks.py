"""Every state of the page, wide and on a phone, light and dark: no accessibility finding; kept as pictures if wanted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import MODEL, PAUSE

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
ANSWER = """\
The edges of a small grid can be counted without drawing it. With **m** columns and **n** rows of squares:

- horizontal edges: `m × (n + 1)`
- vertical edges: `n × (m + 1)`

So a 3 by 2 grid has 3 × 3 + 2 × 4 = **17** edges. The same in Python:

```python
def num_edges(columns: int, rows: int) -> int:
    \"\"\"Edges of a grid of squares, shared ones counted once.\"\"\"
    return columns * (rows + 1) + rows * (columns + 1)
```
"""
LONG_CODE = (
    "| Grid | Edges |\n|---|---:|\n| 1 × 1 | 4 |\n| 3 × 2 | 17 |\n\n```text\n"
    + "\n".join(f"{line:>4}  " + "a line that is far too wide for a phone, and scrolls " * 3 for line in range(12))
    + "\n```"
)
PROFILES = {
    "wide-light": {"viewport": WIDE, "color_scheme": "light"},
    "wide-dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone-light": {"viewport": PHONE, "color_scheme": "light", "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
}  # fmt: skip


def send(page: Any, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def finish(page: Any) -> None:
    page.locator(".answer:last-child footer").wait_for()


def chat(page: Any, server: Any) -> None:
    for earlier in ("Rename photos by date", "A haiku about frost"):
        server.answer("Yes.")
        send(page, earlier)
        finish(page)
        page.keyboard.press("Control+k")
    server.answer(ANSWER)
    send(page, "How many edges has a grid of 3 by 2 squares?")
    finish(page)


def empty(page: Any, server: Any) -> None:
    pass


def streaming(page: Any, server: Any) -> None:
    server.answer(ANSWER[:260], PAUSE)
    send(page, "How many edges has a grid of 3 by 2 squares?")
    page.locator(".prose", has_text="horizontal edges").wait_for()


def waiting(page: Any, server: Any) -> None:
    server.answer(PAUSE)
    send(page, "Hi")
    page.get_by_text("Reading the prompt").wait_for()


def error(page: Any, server: Any) -> None:
    server.refuse(429, "64 requests wait already.", None, Retry_After="3")
    send(page, "How many edges has a grid of 3 by 2 squares?")
    page.get_by_role("alert").wait_for()


def code(page: Any, server: Any) -> None:
    server.answer(LONG_CODE)
    send(page, "Show me something long")
    finish(page)


def settings(page: Any, server: Any) -> None:
    chat(page, server)
    page.get_by_role("button", name="Settings of this conversation").click()
    page.get_by_label("Temperature").fill("0.2")


def drawer(page: Any, server: Any) -> None:
    chat(page, server)
    if page.viewport_size == PHONE:
        page.get_by_role("button", name="Conversations").click()
    else:
        page.get_by_role("button", name="Delete “A haiku about frost”").click(force=True)
    page.wait_for_timeout(250)


def editing(page: Any, server: Any) -> None:
    chat(page, server)
    page.get_by_role("button", name="Edit and send again").click(force=True)


def key(page: Any, server: Any) -> None:
    server.key = "secret"
    page.reload()
    page.get_by_role("dialog").wait_for()


STATES = {
    state.__name__: state for state in (chat, empty, streaming, waiting, error, code, settings, drawer, editing, key)
}


SHOWN = [
    (profile, state)
    for profile in PROFILES
    for state in STATES
    if profile in ("wide-light", "phone-dark") or state == "chat"
]


@pytest.mark.parametrize(("profile", "state"), SHOWN)
def test_a_state(new_page: Callable[..., Any], server: Any, tmp_path: Path, profile: str, state: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make proof-page` brings axe")
    if state == "empty":
        server.models[0] = {**MODEL, "id": "gemma-3-270m", "is_chat": False}
    page = new_page(**PROFILES[profile])
    STATES[state](page, server)
    folder = Path(os.environ.get("GEMCUT_PAGE_IMAGES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{state}-{profile}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    found = axe.Axe().run(page).response["violations"]
    assert [(finding["id"], [node["target"] for node in finding["nodes"]]) for finding in found] == []


def test_on_a_phone_no_field_makes_the_browser_zoom(new_page: Callable[..., Any], server: Any) -> None:
    """Safari zooms into a field whose text is smaller than 16 pixels."""
    page = new_page(**PROFILES["phone-light"])
    sizes = page.evaluate(
        "[...document.querySelectorAll('input, textarea, select')].map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert len(sizes) >= 9
    assert min(sizes) >= 16


def test_on_a_phone_the_list_is_a_drawer(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(**PROFILES["phone-light"])
    send(page, "From a phone")
    finish(page)
    link = page.get_by_role("link", name="From a phone")
    assert not link.is_visible()
    page.get_by_role("button", name="Conversations").tap()
    link.wait_for()
    page.get_by_role("button", name="New chat").tap()
    link.wait_for(state="hidden")
    page.get_by_role("heading", name="Talk to").wait_for()
    page.get_by_role("button", name="Conversations").tap()
    link.tap()
    page.locator(".bubble", has_text="From a phone").wait_for()
    assert not link.is_visible()
    for button in page.locator(".bar button:visible").all():
        assert min(button.bounding_box()["width"], button.bounding_box()["height"]) >= 40


def test_on_a_phone_enter_begins_a_line(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(**PROFILES["phone-light"])
    page.get_by_label("Message", exact=True).tap()
    page.keyboard.type("a")
    page.keyboard.press("Enter")
    page.keyboard.type("b")
    assert page.get_by_label("Message", exact=True).input_value() == "a\nb"
    assert server.requests == []


def test_the_theme_is_changed_kept_and_given_back_to_the_system(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    button = page.get_by_role("button", name="Change between light and dark")
    button.click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    button.click()
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light
