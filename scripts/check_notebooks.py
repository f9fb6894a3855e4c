"""Every notebook keeps its outputs, ran from top to bottom, and holds no error and no notice of one machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print every problem; 1 when there is one."""
    problems = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        problems += [f"{path.relative_to(ROOT)}: {problem}" for problem in faults(notebook)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def faults(notebook: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one notebook."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    counts = [cell["execution_count"] for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"code cells ran in the order {counts}, expected 1 to {len(cells)}. Run it anew from the top."
    outputs = [output for cell in cells for output in cell["outputs"]]
    if not outputs:
        yield "no cell has an output. Run it and keep what it prints."
    for output in outputs:
        if output["output_type"] == "error":
            yield f"a cell ended with {output['ename']}: {output['evalue']}."
        if output.get("name") == "stderr":
            yield "a cell keeps notices of one machine. Run: python scripts/run_notebooks.py"


if __name__ == "__main__":
    sys.exit(main())
