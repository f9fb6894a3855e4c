"""A browser, and the chat page in it. `make proof-page` brings what these tests need; elsewhere they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Root's browser has no sandbox; the rest keeps it from asking its maker's hosts for anything.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def browser(record_testsuite_property: Callable[[str, object], None]) -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; `make proof-page` brings it")
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        record_testsuite_property("chromium", browser.version)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def running_server(browser: Any) -> Iterator[Any]:
    """One scripted server for all tests."""
    from scripted_server import ScriptedServer

    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def server(running_server: Any) -> Any:
    """The scripted server as at its start."""
    running_server.reset()
    return running_server


@pytest.fixture
def new_page(browser: Any, server: Any) -> Iterator[Callable[..., Any]]:
    """Open the chat page in a profile of its own; keyword arguments are the profile's.

    After the test: no error on the console but refused requests, nothing that the content-security policy had to stop,
    no request to another host.
    """
    contexts: list[Any] = []
    problems: list[str] = []

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            problems.append(message.text)

    def on_request(request: Any) -> None:
        scheme = urlsplit(request.url).scheme
        if scheme not in ("blob", "data") and not request.url.startswith(server.url):
            problems.append(f"asked another host: {request.url}")

    def new_page(path: str = "/", is_opened: bool = True, **profile: Any) -> Any:
        context = browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **profile})
        contexts.append(context)
        context.set_default_timeout(20_000)
        context.on("console", on_console)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on("request", on_request)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => "
            "console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"
        )
        page = context.new_page()
        if is_opened:
            page.goto(server.url + path)
            page.get_by_role("heading", name="Talk to").wait_for()
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """The chat page on a wide screen, models loaded."""
    return new_page()
