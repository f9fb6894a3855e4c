"""Talking on the page: send, stop, edit, answer again, errors, the key, what a reload keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from scripted_server import BREAK, MODEL, PAUSE

WELCOME = re.compile("Talk to")


def say(page: Any, text: str) -> None:
    """Send `text` as its user would."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def last_answer(page: Any) -> Any:
    """The last answer's element."""
    return page.get_by_role("article", name=re.compile("^Answer of")).last


def finished(page: Any) -> Any:
    """The last answer, once it is complete."""
    page.locator(".answer:last-child footer").wait_for()
    return last_answer(page)


def contents(server: Any) -> list[tuple[str, str]]:
    """Roles and texts of the last request."""
    return [(message["role"], message["content"]) for message in server.requests[-1]["messages"]]


def test_an_answer_says_who_made_it_and_how_fast(page: Any, server: Any) -> None:
    say(page, "Hi")
    answer = finished(page)
    assert answer.locator(".prose").text_content() == "Hello, world."
    assert answer.locator("strong").inner_text() == "world"
    figures = answer.locator(".figures").inner_text()
    assert figures == "gemma-3-270m-it · native · 142 tokens/s · 0.08 s to first token · 180 tokens"
    assert page.get_by_text("204 of 32,768 tokens of context").is_visible()
    assert server.requests == [
        {
            "model": "gemma-3-270m-it",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
    ]


def test_text_is_shown_while_it_comes(page: Any, server: Any) -> None:
    server.answer("First part. ", PAUSE, "Second part.")
    say(page, "Hi")
    page.locator(".prose", has_text="First part.").wait_for()
    assert last_answer(page).get_attribute("aria-busy") == "true"
    server.release()
    assert finished(page).locator(".prose").text_content() == "First part. Second part."


def test_until_the_first_word_the_page_says_that_it_waits(page: Any, server: Any) -> None:
    server.answer(PAUSE, "Done.")
    say(page, "Hi")
    page.get_by_text("Reading the prompt").wait_for()
    server.release()
    page.get_by_text("Reading the prompt").wait_for(state="detached")


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_ends_the_request_and_keeps_the_text(page: Any, server: Any, how: str) -> None:
    server.answer("As far", " as it came", PAUSE, " and no further")
    say(page, "Hi")
    page.locator(".prose", has_text="As far as it came").wait_for()
    if how == "button":
        page.get_by_role("button", name="Stop the answer").click()
    else:
        page.keyboard.press("Escape")
    figures = finished(page).locator(".figures").inner_text()
    assert re.fullmatch(
        r"gemma-3-270m-it · native · [\d.]+ tokens/s · [\d.]+ s to first token · 2 tokens · stopped", figures
    )
    assert last_answer(page).locator(".prose").text_content() == "As far as it came"
    wait_until(page, lambda: server.num_cut == 1)
    server.answer("Next.")
    say(page, "Go on")
    finished(page)
    assert contents(server) == [("user", "Hi"), ("assistant", "As far as it came"), ("user", "Go on")]


def wait_until(page: Any, is_true: Callable[[], bool]) -> None:
    """Give the server time to notice something; fails after five seconds."""
    for _ in range(500):
        if is_true():
            return
        page.wait_for_timeout(10)
    raise AssertionError("nothing happened within five seconds")


def test_an_edited_message_cuts_what_followed_and_can_be_undone(page: Any, server: Any) -> None:
    for text in ("one", "two"):
        say(page, text)
        finished(page)
    page.get_by_role("article", name="You").first.hover()
    page.get_by_role("button", name="Edit and send again").first.click()
    page.get_by_label("Edit message").fill("one, changed")
    page.get_by_role("button", name="Send again", exact=True).click()
    finished(page)
    assert contents(server) == [("user", "one, changed")]
    assert page.get_by_role("article").count() == 2
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".bubble").all_text_contents() == ["one", "two"]
    page.reload()
    assert page.locator(".bubble").all_text_contents() == ["one", "two"]


def test_editing_can_be_cancelled(page: Any, server: Any) -> None:
    say(page, "one")
    finished(page)
    page.get_by_role("button", name="Edit and send again").click(force=True)
    page.get_by_label("Edit message").fill("changed")
    page.keyboard.press("Escape")
    assert page.locator(".bubble").text_content() == "one"
    assert page.get_by_role("button", name="Edit and send again").evaluate("node => node === document.activeElement")
    assert len(server.requests) == 1


def test_an_answer_can_be_made_again(page: Any, server: Any) -> None:
    say(page, "Hi")
    finished(page)
    server.answer("Another one.")
    page.get_by_role("button", name="Answer again").click()
    page.locator(".prose", has_text="Another one.").wait_for()
    finished(page)
    assert contents(server) == [("user", "Hi")]
    page.get_by_role("button", name="Undo").click()
    assert last_answer(page).locator(".prose").text_content() == "Hello, world."


def test_a_reload_keeps_the_conversation_and_its_address(page: Any, server: Any) -> None:
    say(page, "Remember me")
    finished(page)
    page.reload()
    assert page.locator(".bubble").text_content() == "Remember me"
    assert last_answer(page).locator(".prose").text_content() == "Hello, world."
    assert page.title() == "Remember me · Gemcut"


def test_a_reload_in_the_middle_keeps_what_came(page: Any, server: Any) -> None:
    server.answer("Half of it", PAUSE)
    say(page, "Hi")
    page.locator(".prose", has_text="Half of it").wait_for()
    page.reload()
    assert last_answer(page).locator(".prose").text_content() == "Half of it"
    assert "stopped" in last_answer(page).locator(".figures").inner_text()


def test_an_answer_goes_on_while_another_conversation_is_shown(page: Any, server: Any) -> None:
    server.answer("Begun. ", PAUSE, "Ended.")
    say(page, "Slow one")
    page.locator(".prose", has_text="Begun.").wait_for()
    page.get_by_role("button", name="New chat").click()
    page.get_by_role("heading", name=WELCOME).wait_for()
    assert page.get_by_role("img", name="Answering").is_visible()
    page.get_by_role("link", name="Slow one").click()
    page.locator(".prose", has_text="Begun.").wait_for()
    server.release()
    assert finished(page).locator(".prose").text_content() == "Begun. Ended."
    assert page.get_by_role("img", name="Answering").count() == 0


REFUSALS = {
    "queue full": (
        429,
        "The queue holds 64 requests.",
        None,
        {"Retry_After": "3"},
        "The server is busy.",
        "Try again in 3 s",
    ),
    "draining": (
        503,
        "Shutting down.",
        None,
        {"Retry_After": "1"},
        "not taking requests now",
        "Try again in 1 second.",
    ),
    "too long": (400, "5,000 tokens, at most 4,096.", "context_length_exceeded", {}, "no longer fits", "5,000 tokens"),
    "bad value": (400, "top_p is 7.", None, {}, "The server refused the request.", "top_p is 7."),
    "gone model": (404, "No model x.", "not_found", {}, "does not offer this model", "No model x."),
    "engine": (500, "The server failed; its log says why.", None, {}, "The server failed.", "its log says why"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_said_in_words_and_can_be_retried(page: Any, server: Any, case: tuple[Any, ...]) -> None:
    status, message, code, headers, title, detail = case
    server.refuse(status, message, code, **headers)
    say(page, "Hi")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert title in alert.inner_text()
    assert detail in alert.inner_text()
    alert.get_by_role("button", name="Try again").click()
    page.locator(".prose", has_text="Hello, world.").wait_for()
    assert page.get_by_role("alert").count() == 0
    assert contents(server) == [("user", "Hi")]


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (BREAK, "closed the connection"),
        ({"message": "The engine ran out of memory.", "code": "engine_error"}, "out of memory"),
    ],
    ids=["connection", "error event"],
)
def test_an_answer_that_breaks_off_keeps_its_text(page: Any, server: Any, ending: Any, words: str) -> None:
    server.answer("So far", ending)
    say(page, "Hi")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The answer broke off." in alert.inner_text()
    assert words in alert.inner_text()
    assert last_answer(page).locator(".prose").text_content() == "So far"


def test_after_a_failure_the_next_message_joins_the_unanswered_one(page: Any, server: Any) -> None:
    server.refuse(500, "Broken.")
    say(page, "First")
    page.get_by_role("alert").wait_for()
    say(page, "Second")
    finished(page)
    assert contents(server) == [("user", "First\n\nSecond")]


def test_a_server_that_is_away_is_waited_for(new_page: Callable[..., Any], server: Any) -> None:
    page = new_page(is_opened=False)
    page.clock.install()
    page.route("**/v1/models", lambda route: route.abort())
    page.goto(server.url)
    page.get_by_text("The server cannot be reached. This page tries again by itself.").wait_for()
    page.unroute("**/v1/models")
    page.clock.run_for(4000)
    page.get_by_role("heading", name=WELCOME).wait_for()


def test_a_key_is_asked_for_refused_and_taken(new_page: Callable[..., Any], server: Any) -> None:
    server.key = "correct horse"
    page = new_page(is_opened=False)
    page.goto(server.url)
    dialog = page.get_by_role("dialog", name="This server wants an API key")
    for key in ("wrong", "correct horse"):
        dialog.get_by_label("API key", exact=True).fill(key)
        page.keyboard.press("Enter")
        if key == "wrong":
            dialog.get_by_text("It refused the one it was given.").wait_for()
    page.get_by_role("heading", name=WELCOME).wait_for()
    say(page, "Hi")
    finished(page)
    page.reload()
    assert page.locator(".bubble").text_content() == "Hi"
    assert page.evaluate("JSON.stringify(localStorage)").count("correct horse") == 0
    server.key = "changed"
    say(page, "Again")
    page.get_by_role("alert").get_by_role("button", name="Enter the key").click()
    dialog.get_by_label("API key", exact=True).fill("changed")
    dialog.get_by_role("button", name="Use this key").click()
    dialog.wait_for(state="hidden")


def test_without_a_key_the_page_says_what_it_needs(new_page: Callable[..., Any], server: Any) -> None:
    server.key = "secret"
    page = new_page(is_opened=False)
    page.goto(server.url)
    page.get_by_role("button", name="Not now").click()
    page.get_by_role("button", name="Enter the key").click()
    page.get_by_label("API key", exact=True).fill("secret")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=WELCOME).wait_for()


def test_settings_show_the_models_values_and_send_only_what_was_changed(page: Any, server: Any) -> None:
    page.get_by_role("button", name="Settings of this conversation").click()
    fields = {
        label: page.get_by_label(label, exact=True)
        for label in ("Temperature", "Top k", "Top p", "Min p", "Max tokens", "Seed")
    }
    assert [field.get_attribute("placeholder") for field in fields.values()] == [
        "1",
        "64",
        "0.95",
        "0",
        "no limit",
        "random",
    ]
    page.get_by_label("System prompt").fill("Be brief.")
    fields["Temperature"].fill("0.2")
    fields["Top p"].fill("7")  # refused by the field itself
    fields["Seed"].fill("11")
    page.keyboard.press("Escape")
    say(page, "Hi")
    finished(page)
    sent = server.requests[-1]
    assert {name: sent[name] for name in sent if name not in ("model", "messages", "stream", "stream_options")} == {
        "temperature": 0.2,
        "seed": 11,
    }
    assert contents(server) == [("system", "Be brief."), ("user", "Hi")]
    page.get_by_role("button", name="New chat").click()
    say(page, "Hello again")
    finished(page)
    assert server.requests[-1]["temperature"] == 0.2
    page.get_by_role("button", name="Settings of this conversation").click()
    page.get_by_role("button", name="Back to the model's values").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Answer again").click()
    wait_until(page, lambda: len(server.requests) == 3)
    assert "temperature" not in server.requests[-1]


def test_the_model_is_chosen_per_conversation(new_page: Callable[..., Any], server: Any) -> None:
    server.models.append({**MODEL, "id": "gemma-3-270m-it+poet", "context_length": 4096})
    page = new_page()
    page.get_by_label("Model").select_option("gemma-3-270m-it+poet")
    assert page.locator(".welcome").get_by_text("4,096 tokens of context").is_visible()
    say(page, "Hi")
    assert "gemma-3-270m-it+poet" in finished(page).locator(".figures").inner_text()
    assert server.requests[-1]["model"] == "gemma-3-270m-it+poet"
    server.models.pop()
    page.reload()
    page.locator(".prose", has_text="Hello").wait_for()
    assert page.get_by_label("Model").input_value() == "gemma-3-270m-it"


def test_a_base_model_is_named_as_such(new_page: Callable[..., Any], server: Any) -> None:
    server.models[0]["is_chat"] = False
    page = new_page()
    page.get_by_text("gemma-3-270m-it is a base model").wait_for()
    page.get_by_role("button", name="The planets of the solar system").click()
    page.get_by_role("button", name="Send", exact=True).click()
    finished(page)
    assert contents(server) == [("user", "The planets of the solar system, in order from the Sun, are")]


def test_an_answer_that_reached_the_limit_says_so(page: Any, server: Any) -> None:
    server.finish_reason = "length"
    say(page, "Hi")
    assert "ended by the limit of tokens" in finished(page).locator(".figures").inner_text()


def test_an_empty_answer_is_said_to_be_one(page: Any, server: Any) -> None:
    server.answer()
    say(page, "Hi")
    assert finished(page).get_by_text("The model ended its turn without a word.").is_visible()


@pytest.mark.parametrize("has_clipboard", [True, False], ids=["clipboard", "plain http"])
def test_an_answer_is_copied_as_it_was_written(new_page: Callable[..., Any], server: Any, has_clipboard: bool) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    if not has_clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('insecure'); }; }")
    say(page, "Hi")
    finished(page)
    page.get_by_role("button", name="Copy answer").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "Hello, **world**."


def test_the_end_is_followed_until_the_reader_scrolls_up(page: Any, server: Any) -> None:
    lines = "\n\n".join(f"Paragraph {number}." for number in range(60))
    server.answer(lines, PAUSE, "\n\nThe last one.")
    say(page, "Hi")
    page.locator(".prose", has_text="Paragraph 59.").wait_for()
    thread = page.get_by_role("region", name="Conversation")
    from_end = "node => node.scrollHeight - node.clientHeight - node.scrollTop"
    wait_until(page, lambda: thread.evaluate(from_end) < 2)
    thread.hover()
    page.mouse.wheel(0, -600)
    page.get_by_role("button", name="Go to the newest text").wait_for()
    server.release()
    finished(page)
    assert thread.evaluate(from_end) > 300
    page.get_by_role("button", name="Go to the newest text").click()
    wait_until(page, lambda: thread.evaluate(from_end) < 2)
    assert page.get_by_role("button", name="Go to the newest text").count() == 0


def test_answering_again_in_the_middle_says_what_it_takes_away(page: Any, server: Any) -> None:
    for text in ("one", "two"):
        say(page, text)
        finished(page)
    page.get_by_role("button", name="Answer again").first.click()
    page.get_by_text("The earlier answer and what followed it were removed.").wait_for()
    finished(page)
    assert contents(server) == [("user", "one")]
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".bubble").all_text_contents() == ["one", "two"]
