"""The page without a mouse."""

from __future__ import annotations

from typing import Any

from scripted_server import PAUSE


def focused(page: Any) -> str:
    """Name of what has the focus."""
    return page.evaluate(
        "(({ ariaLabel, id, dataset, tagName }) => ariaLabel ?? (id || dataset.key || tagName))(document.activeElement)"
    )


def test_a_conversation_by_keyboard_alone(page: Any, server: Any) -> None:
    assert focused(page) == "prompt"
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    page.locator(".answer footer").wait_for()
    assert server.requests[0]["messages"][0]["content"] == "first line\nsecond line"
    server.answer("Begun", PAUSE)
    page.keyboard.type("again")
    page.keyboard.press("Enter")
    page.locator(".prose", has_text="Begun").wait_for()
    page.keyboard.press("Escape")
    page.locator(".figures", has_text="stopped").wait_for()
    page.keyboard.press("Control+k")
    page.get_by_role("heading", name="Talk to").wait_for()
    assert focused(page) == "prompt"


def test_enter_that_ends_a_composition_does_not_send(page: Any, server: Any) -> None:
    page.get_by_label("Message", exact=True).fill("かんじ")
    page.evaluate(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    assert page.get_by_role("article").count() == 0


def test_nothing_empty_is_sent(page: Any, server: Any) -> None:
    page.keyboard.type("   ")
    page.keyboard.press("Enter")
    assert page.get_by_role("button", name="Send", exact=True).is_disabled()
    assert server.requests == []


def test_every_control_is_reached_and_shows_the_focus(page: Any) -> None:
    page.keyboard.type("Hi")
    page.keyboard.press("Enter")
    page.locator(".answer footer").wait_for()
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        name = focused(page)
        if name in reached:
            break
        reached.append(name)
        if name == "BODY":  # between the last control and the first
            continue
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        border = "getComputedStyle(document.activeElement.parentElement).boxShadow"
        assert page.evaluate(outline) != "none" or page.evaluate(border) != "none", name
    wanted = {"new-chat", "Rename “Hi”", "Export “Hi”", "Delete “Hi”", "Settings of this conversation", "prompt"}
    assert wanted <= set(reached)
    assert {"Edit and send again", "Copy answer", "Answer again", "Copy message"} <= set(reached)


def test_escape_closes_the_settings_before_it_stops_an_answer(page: Any, server: Any) -> None:
    server.answer("Begun", PAUSE, " and ended")
    page.keyboard.type("Hi")
    page.keyboard.press("Enter")
    page.locator(".prose", has_text="Begun").wait_for()
    page.get_by_role("button", name="Settings of this conversation").click()
    page.get_by_role("heading", name="This conversation").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="This conversation").wait_for(state="hidden")
    server.release()
    page.locator(".prose", has_text="Begun and ended").wait_for()


def test_a_screen_reader_hears_whole_paragraphs(page: Any, server: Any) -> None:
    server.answer("One.\n\nTwo is ", "longer.\n\n", "Three.")
    page.keyboard.type("Hi")
    page.keyboard.press("Enter")
    page.locator(".answer footer").wait_for()
    assert page.locator("[aria-live=polite] p").all_inner_texts() == ["One.", "Two is longer.", "Three."]
