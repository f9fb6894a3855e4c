"""The checks of `make check` see what they are there to see."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    """A script of the repository, imported by its name."""

    def load(name: str):
        monkeypatch.syspath_prepend(str(SCRIPTS))
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("x = 1\n" * 501, [":1: 501 lines, at most 500."], id="file"),
        pytest.param("x = 1\n\n" * 500, [], id="blank-lines-do-not-count"),
        pytest.param("def f():\n" + "    x = 1\n" * 61, [":1: f has 61 lines, at most 60."], id="function"),
        pytest.param('def f():\n    """A.\n' + "    b\n" * 99 + '    """\n    x = 1\n', [], id="docstring-is-free"),
        pytest.param(
            f"def f({', '.join(f'a{i}' for i in range(11))}): pass\n",
            [":1: f has 11 parameters, at most 10."],
            id="many",
        ),
        pytest.param(f"def f(self, *, {', '.join(f'a{i}' for i in range(30))}): pass\n", [], id="keyword-only-is-free"),
    ],
)
def test_budgets(script, source, expected):
    assert list(script("check_budgets").passed_limits(source)) == expected


BODY = "  x = 1;\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("int x;\n" * 501, [":1: 501 lines, at most 500."], id="file"),
        pytest.param(
            f"namespace a {{\nint f(int b) {{\n{BODY * 61}}}\n}}\n",
            [":2: f has 61 lines, at most 60."],
            id="function",
        ),
        pytest.param(
            f"struct S {{\n  S() : a_(1), b_{{2}} {{}}\n  void g() const {{\n{BODY * 61}  }}\n}};\n",
            [":3: g has 61 lines, at most 60."],
            id="method",
        ),
        pytest.param(f"// {{ f(\nint f() {{\n{BODY * 60}}}\nint g() {{\n{BODY * 60}}}\n", [], id="two-functions"),
        pytest.param('const char* a = R"({ f(})";\nint g() { return 1; }\n', [], id="braces-in-texts"),
        pytest.param(f"const int a[] = {{\n{'  1,' * 3}\n}};\nenum class E {{\n{'  a,' * 99}\n}};\n", [], id="tables"),
        pytest.param(
            f"int f({', '.join(f'A<int, 2> a{i}' for i in range(11))}) {{\n}}\n",
            [":1: f has 11 parameters, at most 10."],
            id="parameters",
        ),
    ],
)
def test_budgets_of_cpp(script, source, expected):
    assert list(script("check_budgets").passed_cpp_limits(source)) == expected


def test_generated_sources_may_be_long(script):
    is_generated = script("check_budgets").is_generated
    assert is_generated("// Tables. Written by scripts/x.py; do not edit.\nint x;\n")
    assert not is_generated("// Tables.\n// do not edit\n")


@pytest.mark.skipif(shutil.which("g++") is None or shutil.which("nm") is None, reason="needs g++ and nm")
@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("inline int f() { return 1; }\nint g() { return f(); }", ["f()"], id="shared"),
        pytest.param(
            "namespace gemcut { namespace isa_fake { inline int f() { return 1; } int g() { return f(); } } }",
            [],
            id="its-own",
        ),
        pytest.param("static int f() { return 1; }\nint g() { return f(); }", [], id="local"),
    ],
)
def test_functions_shared_between_instruction_sets(script, tmp_path, source, found):
    (tmp_path / "isa_fake.cc").write_text(source)
    subprocess.run(["g++", "-c", "isa_fake.cc", "-o", "isa_fake.cc.o"], cwd=tmp_path, check=True)
    problems = script("check_isa_symbols").shared_functions(tmp_path / "isa_fake.cc.o")
    assert problems == [
        f"isa_fake.cc.o: {name} is shared with other objects; put it into a namespace NAME_fake." for name in found
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("see /" + "work/main/x.py", 1, id="work"),
        pytest.param("/" + "home/ann/model", 1, id="home"),
        pytest.param("https://pypi" + ".org/project/x", 1, id="registry"),
        pytest.param("a/work of art, ~/.cache and /tmp", 0, id="harmless"),
    ],
)
def test_machine_words(script, line, found):
    assert len(list(script("check_docs").forbidden_words(line))) == found


def test_links(script, tmp_path):
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One `two` three\n")
    text = "[x](b.md) [x](b.md#one-two-three) [x](https://e.org)\n[x](c.md)\n[x](b.md#four)\n[x](#here)\n# Here\n"
    page.write_text(text)
    assert list(script("check_docs").broken_links(page, text)) == [
        "2: the link c.md leads nowhere.",
        "3: b.md has no heading for #four.",
    ]


def test_blocks(script):
    text = (
        "```python\nx = (\n```\n\n<!-- not run: needs a GPU -->\n```python\ny = (\n```\n\n"
        "```console\nls\n```\n<!-- not run: -->\n```python\nz\n```\n```text\n(\n```\n"
    )
    assert list(script("check_docs").bad_blocks(text)) == [
        "1: the block does not compile: '(' was never closed.",
        "10: a console block needs lines that begin with `$ `.",
        "14: `not run` gives no reason.",
    ]


def test_console_sessions(script):
    (block,) = script("doc_blocks").blocks("```console\n$ one \\\n  more\nout\n\n$ two\n```\n")
    assert block.sessions() == [("one   more", "out\n\n"), ("two", "")]


def cell(count, *outputs, kind="code"):
    return {"cell_type": kind, "source": ["x"], "execution_count": count, "outputs": list(outputs)}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param([cell(None, kind="markdown"), cell(1), cell(2, {"output_type": "stream"})], [], id="good"),
        pytest.param(
            [cell(2, {"output_type": "stream"})],
            ["code cells ran in the order [2], expected 1 to 1. Run it anew from the top."],
            id="order",
        ),
        pytest.param([cell(1)], ["no cell has an output. Run it and keep what it prints."], id="no-output"),
        pytest.param(
            [cell(1, {"output_type": "error", "ename": "ValueError", "evalue": "x"})],
            ["a cell ended with ValueError: x."],
            id="error",
        ),
        pytest.param(
            [cell(1, {"output_type": "stream", "name": "stderr"})],
            ["a cell keeps notices of one machine. Run: python scripts/run_notebooks.py"],
            id="notice",
        ),
    ],
)
def test_notebooks(script, cells, expected):
    assert list(script("check_notebooks").faults({"cells": cells})) == expected


def test_command_page_is_made_from_help(script):
    page = script("cli_docs").render()
    assert "## gemcut run" in page
    assert "--repetition-penalty" in page
