"""Run every notebook from top to bottom and keep what it prints.

Progress and notices (standard error) are not kept: they name this machine's folders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 300


def main() -> int:
    """Write each notebook back with its outputs."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        print(path.relative_to(ROOT), file=sys.stderr)
        nbformat.write(executed(path), path)
    return 0


def executed(path: Path) -> Any:
    """The notebook after a fresh run in its own folder, without times and notices."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    client.execute()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def printed(notebook: Any) -> list[str]:
    """What each code cell wrote to standard output."""
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


if __name__ == "__main__":
    sys.exit(main())
