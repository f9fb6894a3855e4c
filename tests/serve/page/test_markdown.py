"""Markdown: what becomes an element, what stays text, and that a text that streams ends as it does at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

# The page's own modules, asked from the outside: a text in, the elements' markup out.
RENDER = """async (source) => {
  const { showMarkdown } = await import("/page/markdown.js");
  const place = document.createElement("div");
  showMarkdown(place, source);
  for (const node of place.querySelectorAll("figcaption")) node.remove();
  return place.innerHTML.replaceAll(' tabindex="0" role="group" aria-label="Code"', "");
}"""
STREAM = """async ([sources, cuts]) => {
  const { MarkdownStream, showMarkdown } = await import("/page/markdown.js");
  return sources.filter((source, i) => {
    const whole = document.createElement("div");
    showMarkdown(whole, source);
    const streamed = document.createElement("div");
    const spoken = [];
    const stream = new MarkdownStream(streamed, (text) => spoken.push(text));
    let begin = 0;
    for (const cut of [...cuts[i], source.length]) {
      stream.append(source.slice(begin, cut));
      stream.draw();
      begin = cut;
    }
    stream.finish();
    return streamed.innerHTML !== whole.innerHTML || spoken.join("") !== whole.textContent;
  });
}"""

CASES = {
    "paragraphs": ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
    "emphasis": ("*a* **b** ***c*** ~~d~~ _e_", "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <del>d</del> <em>e</em></p>"),
    "nested emphasis": ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
    "no emphasis": ("2 * 3 * 4, snake_case_name, a ~ b, **open", "<p>2 * 3 * 4, snake_case_name, a ~ b, **open</p>"),
    "code span": ("`a*b*` and ``x ` y``", "<p><code>a*b*</code> and <code>x ` y</code></p>"),
    "unclosed code span": ("a ` b", "<p>a ` b</p>"),
    "escapes": (r"\*not\* \\ \a", r"<p>*not* \ \a</p>"),
    "heading": ("# One\n### Three ##\n#no", "<h3>One</h3><h5>Three</h5><p>#no</p>"),
    "rule": ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
    "code block": ("```python\nif a < b:\n\n    pass\n```", "<figure class=\"code\"><pre><code>if a &lt; b:\n\n    pass</code></pre></figure>"),
    "open code block": ("~~~\n# no heading", '<figure class="code"><pre><code># no heading</code></pre></figure>'),
    "tight list": ("- a\n- b\n  - c\n* d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
    "numbered list": ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    "nested by two": ("1. a\n  - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    "loose list": ("1. a\n\n   more\n\n2. b", "<ol><li><p>a</p><p>more</p></li><li><p>b</p></li></ol>"),
    "code in a list": ("1. a:\n   ```\n   x\n\n   y\n   ```\n2. b", '<ol><li>a:<figure class="code"><pre><code>x\n\ny</code></pre></figure></li><li>b</li></ol>'),
    "list after text": ("Things:\n- a\n- b", "<p>Things:</p><ul><li>a</li><li>b</li></ul>"),
    "year at a line's start": ("It was in\n1984. Then", "<p>It was in<br>1984. Then</p>"),
    "quote": ("> a\n> - b\n\nc", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>"),
    "bars without a table": ("a | b\nc", "<p>a | b<br>c</p>"),
}  # fmt: skip
LINK = ' target="_blank" rel="noopener noreferrer"'
LINKS = {
    "link": ("[a *b*](https://example.org/x_(y))", f'<a href="https://example.org/x_(y)"{LINK}>a <em>b</em></a>'),
    "title": ('[a](<http://example.org> "t")', f'<a href="http://example.org/"{LINK}>a</a>'),
    "bare": ("see https://example.org/a_b_c.", f'see <a href="https://example.org/a_b_c"{LINK}>https://example.org/a_b_c</a>.'),
    "in brackets": ("(https://example.org)", f'(<a href="https://example.org/"{LINK}>https://example.org</a>)'),
    "angle": ("<https://example.org>", f'<a href="https://example.org/"{LINK}>https://example.org</a>'),
    "image": ("![cat](https://example.org/c.png)", f'<a href="https://example.org/c.png"{LINK}>cat</a>'),
}  # fmt: skip
# None of these may become a link, an element or a request.
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "svg": "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "javascript link": "[x](javascript:alert(1))",
    "split scheme": "[x](java\tscript:alert(1))",
    "encoded scheme": "[x](&#106;avascript:alert(1))",
    "data link": "[x](data:text/html,<script>alert(1)</script>)",
    "vbscript": "<vbscript:x>",
    "file link": "[x](file:///etc/passwd)",
    "relative": "[x](/v1/models)",
    "protocol-relative": "[x](//example.org)",
    "frame": '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "style": "<style>body{display:none}</style>",
    "in code": "`<img src=x onerror=alert(1)>`",
    "language": "```<img/src=x/onerror=alert(1)>\nx\n```",
    "attribute": '[x](https://"onmouseover="alert(1))',
}


@pytest.fixture(scope="module")
def rendered(browser: Any, running_server: Any) -> Any:
    """The page, to ask its modules."""
    page = browser.new_context().new_page()
    page.goto(running_server.url)
    yield page
    page.context.close()


@pytest.mark.parametrize(("source", "html"), CASES.values(), ids=CASES.keys())
def test_blocks_and_inlines(rendered: Any, source: str, html: str) -> None:
    assert rendered.evaluate(RENDER, source) == html


@pytest.mark.parametrize(("source", "html"), LINKS.values(), ids=LINKS.keys())
def test_links(rendered: Any, source: str, html: str) -> None:
    assert rendered.evaluate(RENDER, source) == f"<p>{html}</p>"


def test_a_table(rendered: Any) -> None:
    source = "Prices:\n| What | Each |\n|:--|--:|\n| a \\| b | **1** |\n| c |\n\nEnd"
    html = rendered.evaluate(RENDER, source)
    assert html == (
        '<p>Prices:</p><div class="table" tabindex="0" role="group" aria-label="Table"><table><thead><tr>'
        '<th data-align="left">What</th><th data-align="right">Each</th></tr></thead><tbody><tr>'
        '<td data-align="left">a | b</td><td data-align="right"><strong>1</strong></td></tr><tr>'
        '<td data-align="left">c</td><td data-align="right"></td></tr></tbody></table></div><p>End</p>'
    )


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_answers_stay_text(new_page: Callable[..., Any], server: Any, source: str) -> None:
    server.answer(source[:5], source[5:])
    page = new_page()
    page.on("dialog", lambda dialog: pytest.fail(f"the page showed {dialog.message}"))
    page.get_by_label("Message", exact=True).fill("Hi")
    page.keyboard.press("Enter")
    page.locator(".answer footer").wait_for()
    prose = page.locator(".prose")
    allowed = "p, code, pre, figure, figcaption, span, button, svg.icon, use, br, a[href^=http]"
    assert prose.locator(f":not({allowed})").count() == 0
    assert (
        prose.evaluate(
            "node => [...node.querySelectorAll('*')].flatMap((e) => e.getAttributeNames()).filter((n) => n.startsWith('on'))"
        )
        == []
    )


def random_markdown(generator: random.Random) -> str:
    """Text full of what Markdown is made of."""
    pieces = ["a", "b c", "*", "**", "_", "`", "```", "~~~", "```py", "\n", "\n", "\n\n", "- ", "  - ", "1. ", "> ", "# ", "|", "|-|-|", "| a | b |", "---", " ", "    ", "\\", "[x](", "https://e.org/", ")", "<", "~~", "\t", "é", "😀"]  # fmt: skip
    return "".join(generator.choice(pieces) for _ in range(generator.randint(1, 60)))


def test_streamed_text_ends_as_it_does_at_once(rendered: Any) -> None:
    generator = random.Random(0)
    sources = [random_markdown(generator) for _ in range(4000)]
    # JavaScript counts UTF-16 units, and a stream may be cut anywhere between them.
    lengths = [len(source.encode("utf-16-le")) // 2 for source in sources]
    cuts = [sorted(generator.randrange(length) for _ in range(generator.randint(0, 12))) for length in lengths]
    assert rendered.evaluate(STREAM, [sources, cuts]) == []


GROWING = {
    "brackets": "[" * 20_000,
    "links": "[a](" * 10_000,
    "stars": "**a " * 10_000,
    "closing stars": "a** " * 10_000,
    "both": "*a_" * 10_000,
    "backticks": "".join("`" * (1 + i % 50) + "a" for i in range(3000)),
    "quotes": ">" * 10_000,
    "lists": "\n".join("  " * i + "- a" for i in range(300)),
    "spaces in a heading": "# a" + " " * 50_000 + "b",
    "bars": "|" * 20_000 + "\n" + "|-" * 20_000,
    "addresses": "https://e.org/" + ")" * 20_000,
}


@pytest.mark.parametrize("source", GROWING.values(), ids=GROWING.keys())
def test_no_text_takes_long(rendered: Any, source: str) -> None:
    milliseconds = rendered.evaluate(
        """async (source) => {
          const { showMarkdown } = await import("/page/markdown.js");
          const begin = performance.now();
          showMarkdown(document.createElement("div"), source);
          return performance.now() - begin;
        }""",
        source,
    )
    assert milliseconds < 1000  # what grows with the square of the length takes minutes here


def test_a_long_answer_costs_no_more_to_extend_than_a_short_one(rendered: Any) -> None:
    """Settled paragraphs stay the same elements; only the last block is drawn anew."""
    kept = rendered.evaluate(
        """async () => {
          const { MarkdownStream } = await import("/page/markdown.js");
          const place = document.createElement("div");
          const stream = new MarkdownStream(place);
          for (let i = 0; i < 50; i += 1) { stream.append(`Paragraph ${i}.\\n\\n`); stream.draw(); }
          const before = [...place.children];
          stream.append("More."); stream.draw();
          stream.append("\\n\\n```\\nx = 1\\n"); stream.draw();
          const code = place.querySelector("code");
          stream.append("y = 2\\n"); stream.draw();
          return [before.filter((node, i) => node === place.children[i]).length, code === place.querySelector("code"), code.textContent];
        }"""
    )
    assert kept[0] >= 49
    assert kept[1:] == [True, "x = 1\ny = 2\n"]
