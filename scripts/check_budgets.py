"""Size limits of Python and C++: lines of a file and a function, parameters of a function, lines of a folder.

Blank lines do not count. A function's docstring does not count towards it. Keyword-only parameters do not count,
because sampling options and command flags are that; nor do self and cls.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cpp_sizes import SUFFIXES, functions

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 10
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print the folders' budgets and every limit that is passed; 1 when there is one."""
    budgets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["gemcut"]["budgets"]
    problems = []
    for folder, budget in budgets.items():
        suffixes = SUFFIXES if folder.startswith("cpp") else (".py",)
        files = [path for path in sorted((ROOT / folder).glob("*")) if path.suffix in suffixes]
        lines = sum(num_lines(path.read_text(encoding="utf-8")) for path in files)
        print(f"{folder:<24} {lines:>6} of {budget:>6} lines")
        if lines > budget:
            problems.append(
                f"{folder}: {lines} lines, at most {budget}; delete, or raise the budget in a change of its own."
            )
    for path in sorted((ROOT / "src").rglob("*.py")):
        if str(path.parent.relative_to(ROOT)) not in budgets:
            problems.append(f"{path.parent.relative_to(ROOT)}: no budget in pyproject.toml, [tool.gemcut.budgets].")
    for path in sorted(path for path in (ROOT / "cpp").rglob("*") if path.suffix in SUFFIXES):
        if str(path.parent.relative_to(ROOT)) not in budgets:
            problems.append(f"{path.parent.relative_to(ROOT)}: no budget in pyproject.toml, [tool.gemcut.budgets].")
        if not is_generated(source := path.read_text(encoding="utf-8")):
            problems += [f"{path.relative_to(ROOT)}{problem}" for problem in passed_cpp_limits(source)]
    for tree in ("src", "tests", "scripts", "benchmarks"):
        for path in sorted((ROOT / tree).rglob("*.py")):
            problems += [
                f"{path.relative_to(ROOT)}{problem}" for problem in passed_limits(path.read_text(encoding="utf-8"))
            ]
    print("\n".join(dict.fromkeys(problems)), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def num_lines(source: str) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in source.splitlines())


def passed_limits(source: str) -> Iterator[str]:
    """What is too large in one file, each as ":LINE: ..."."""
    lines = source.splitlines()
    if num_lines(source) > MAX_FILE_LINES:
        yield f":1: {num_lines(source)} lines, at most {MAX_FILE_LINES}."
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        spans = [(statement.lineno - 1, statement.end_lineno) for statement in body]
        count = num_lines("\n".join(lines[spans[0][0] : spans[-1][1]])) if spans else 0
        if count > MAX_FUNCTION_LINES:
            yield f":{node.lineno}: {node.name} has {count} lines, at most {MAX_FUNCTION_LINES}."
        arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        arguments = [name for name in arguments if name not in ("self", "cls")]
        if len(arguments) > MAX_PARAMETERS:
            yield f":{node.lineno}: {node.name} has {len(arguments)} parameters, at most {MAX_PARAMETERS}."


def is_generated(source: str) -> bool:
    """Whether a file says in its first line that a script writes it."""
    return "do not edit" in source.split("\n", 1)[0]


def passed_cpp_limits(source: str) -> Iterator[str]:
    """What is too large in one C++ file, each as ":LINE: ..."."""
    if num_lines(source) > MAX_FILE_LINES:
        yield f":1: {num_lines(source)} lines, at most {MAX_FILE_LINES}."
    for line, name, count, num_parameters in functions(source):
        if count > MAX_FUNCTION_LINES:
            yield f":{line}: {name} has {count} lines, at most {MAX_FUNCTION_LINES}."
        if num_parameters > MAX_PARAMETERS:
            yield f":{line}: {name} has {num_parameters} parameters, at most {MAX_PARAMETERS}."


if __name__ == "__main__":
    sys.exit(main())
