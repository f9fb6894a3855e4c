"""The list of conversations: named, renamed, deleted and brought back, exported, shared by tabs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def talk(page: Any, text: str) -> None:
    """A new conversation with one answer."""
    page.get_by_role("button", name="New chat").click()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    page.locator(".answer:last-child footer").wait_for()


def names(page: Any) -> list[str]:
    """Names of the conversations, as listed."""
    return page.get_by_role("navigation").get_by_role("link").all_inner_texts()


def test_the_newest_is_first_and_named_by_its_beginning(page: Any) -> None:
    talk(page, "First\nof all")
    talk(page, "A question that goes on and on, well beyond what a list could ever show of it in one line")
    assert names(page) == ["A question that goes on and on, well beyond what a list cou…", "First"]
    page.get_by_role("link", name="First").click()
    assert page.locator(".bubble").text_content() == "First\nof all"
    page.go_back()
    assert page.locator(".bubble").text_content().startswith("A question")


def test_a_name_can_be_changed(page: Any) -> None:
    talk(page, "Old name")
    for new, key, shown in [("Not this", "Escape", "Old name"), ("New name", "Enter", "New name")]:
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("Name of the conversation").fill(new)
        page.keyboard.press(key)
        assert names(page) == [shown]
    page.reload()
    assert names(page) == ["New name"]


def test_what_was_deleted_comes_back(page: Any) -> None:
    talk(page, "Keep me")
    page.get_by_role("button", name="Delete “Keep me”").click()
    assert names(page) == []
    page.get_by_role("heading", name="Talk to").wait_for()
    page.get_by_role("button", name="Undo").click()
    assert names(page) == ["Keep me"]
    page.locator(".bubble", has_text="Keep me").wait_for()
    page.get_by_role("button", name="Delete “Keep me”").click()
    page.reload()
    page.get_by_role("heading", name="Talk to").wait_for()
    assert names(page) == []


def test_a_conversation_is_exported_as_json(page: Any, tmp_path: Path) -> None:
    talk(page, "To be kept: Ökologie")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "To-be-kept-Ökologie.json"
    download.value.save_as(tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert [(message["role"], message["content"]) for message in exported["messages"]] == [
        ("user", "To be kept: Ökologie"),
        ("assistant", "Hello, **world**."),
    ]


def test_markup_in_names_and_models_stays_text(new_page: Callable[..., Any], server: Any) -> None:
    server.models[0]["id"] = EVIL
    server.models[0]["engine"] = EVIL
    page = new_page()
    talk(page, EVIL)
    assert names(page) == [EVIL]
    assert page.locator(".bubble").text_content() == EVIL
    assert page.locator("img, nav script, main script").count() == 0
    page.reload()
    page.locator(".bubble").wait_for()
    assert page.locator("img, nav script, main script").count() == 0


def test_tabs_share_conversations(page: Any, server: Any) -> None:
    other = page.context.new_page()
    other.goto(server.url)
    talk(page, "From the first tab")
    other.get_by_role("link", name="From the first tab").click()
    other.locator(".bubble", has_text="From the first tab").wait_for()
    page.get_by_label("Message", exact=True).fill("And more of it")
    page.keyboard.press("Enter")
    other.locator(".bubble", has_text="And more of it").wait_for()
    other.locator(".answer:last-child .figures", has_text="142 tokens/s").wait_for()
    assert other.locator(".answer").count() == 2


def test_entries_that_cannot_be_read_are_left_alone_and_named(page: Any, server: Any) -> None:
    page.evaluate("localStorage.setItem('gemcut.conversation.x', '{\"id\": 3}')")
    page.goto(f"{server.url}/#x")
    page.reload()
    page.get_by_text("1 kept conversations cannot be read").wait_for()
    assert page.evaluate("localStorage.getItem('gemcut.conversation.x')") == '{"id": 3}'


def test_a_full_storage_is_said(page: Any) -> None:
    page.evaluate("localStorage.setItem('filler', 'x'.repeat(5 * 1024 * 1024 - 200))")
    talk(page, "No room for this: " + "long " * 200)
    page.get_by_text("This browser's storage is full").wait_for()
    assert page.locator(".bubble").count() == 1


def test_blocked_storage_leaves_a_page_that_works(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(is_opened=False)
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('blocked', 'SecurityError'); } })"
    )
    page.goto(server.url)
    talk(page, "Hi")
    assert names(page) == ["Hi"]
