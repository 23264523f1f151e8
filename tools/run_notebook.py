"""Execute docs/notebook.ipynb and write what it shows into it; with --check, compare instead.

A cell's pictures and tables are compared as text/plain; their HTML is what a reader sees.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def executed() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, 4)
    # The kernel is this Python, and the folder is not the checkout, whose shstk/ is incomplete.
    os.environ["PYTHONSAFEPATH"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}})
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # The program's own output arrives in pieces that differ from time to time.
            cell.outputs = [_plain(output) for output in cell.outputs if "data" in output]
    return notebook


def _plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    output.metadata = {}
    return output


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [o.data.get("text/plain", "") for cell in cells for o in cell.outputs if "data" in o]


def main() -> int:
    before, now = nbformat.read(NOTEBOOK, 4), executed()
    if "--check" not in sys.argv:
        nbformat.write(now, NOTEBOOK)
    elif shown(before) != shown(now):
        print(f"{NOTEBOOK} shows something else now: run python tools/run_notebook.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
