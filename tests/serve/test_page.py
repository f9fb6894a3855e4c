"""The page's files and the headers they are served under; how the page behaves is tested in tests/serve/page."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gemcut.serve.page import page_files, page_routes

FILES = page_files()
TEXTS = {name: file.content.decode("utf-8") for name, file in FILES.items()}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


@pytest.mark.parametrize("name", ["", *FILES], ids=lambda name: name or "index")
def test_each_file_is_served_under_a_policy(client: TestClient, name: str) -> None:
    response = client.get(f"/page/{name}" if name else "/")
    file = FILES[name or "index.html"]
    assert (response.status_code, response.content) == (200, file.content)
    assert response.headers["Content-Type"] == file.content_type
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert {"frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} <= set(policy)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Frame-Options"] == "DENY"


def test_what_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/style.css")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/page/style.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    other = client.get("/page/style.css", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/page.py",
        "/page/nothing.js",
        "/page/../errors.py",
        "/page/..%2ferrors.py",
        "/page/%2e%2e/errors.py",
        "/page/..%5cerrors.py",
        "/page/%2fetc%2fpasswd",
        "/page//etc/passwd",
        "/page/index.html%00",
        "/page/style.css/",
        "/page/STYLE.CSS",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path, follow_redirects=False).status_code in (307, 404)
    assert (
        client.get(path).content not in [b"", *(file.content for file in FILES.values())] or path == "/page/style.css/"
    )


def test_the_page_names_only_files_it_has() -> None:
    named = set(re.findall(r'(?:href|src)="page/([^"]+)"', TEXTS["index.html"]))
    assert {"style.css", "messages.css", "app.js", "theme.js", "gem.svg"} == named
    imported = {name for text in TEXTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named | imported | {"index.html"} == set(FILES)


def test_icons_are_defined() -> None:
    defined = set(re.findall(r'id="icon-([a-z]+)"', TEXTS["index.html"]))
    used = set(re.findall(r"#icon-([a-z]+)", TEXTS["index.html"]))
    used |= {name for text in TEXTS.values() for name in re.findall(r'\b(?:icon|iconButton|button)\("([a-z]+)"', text)}
    assert used == defined


FORBIDDEN = {
    "markup from text": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc",
    "code from text": r"\beval\(|new Function|javascript:",
    "inline style or script": r"<style|\sstyle=|<script>|\son[a-z]+=\"",
    "another host": r"(?<!\\/)\b(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9-]+\.[a-z]",
}


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("name", FILES)
def test_no_file_has(name: str, what: str) -> None:
    assert re.findall(FORBIDDEN[what], TEXTS[name]) == []


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it, at least 1."""
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        *((text, ground, 4.5) for text in ("ink", "muted", "accent") for ground in ("paper", "raised", "sunk", "tint")),
        ("on-accent", "accent", 4.5),
        ("alarm", "alarm-tint", 4.5),
        ("ink", "alarm-tint", 4.5),
        ("field-line", "raised", 3.0),
        ("field-line", "paper", 3.0),
        ("accent", "raised", 3.0),
    ],
)
def test_colours_can_be_told_apart(theme: int, text: str, ground: str, least: float) -> None:
    colours = {
        name: (light, dark)
        for name, light, dark in re.findall(
            r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", TEXTS["style.css"]
        )
    }
    assert contrast(colours[text][theme], colours[ground][theme]) >= least
