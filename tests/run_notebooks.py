#!/usr/bin/env python3
"""Executes every notebook top to bottom in a clean kernel.

    run_notebooks.py [--keep DIR]

Fails on an error in a cell, on a notebook committed with outputs, on one that draws nothing, and on
an output that names a folder of this machine. `--keep` writes the executed notebooks into DIR.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"


def complaints_before(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.outputs or cell.execution_count for cell in code):
        yield "was committed with outputs; strip them"
    if notebook.cells[0].cell_type != "markdown":
        yield "does not begin with what it is about"


def complaints_after(notebook):
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    data = [out.get("data", {}) for out in outputs]
    if sum("image/png" in kinds for kinds in data) < 2:
        yield "draws fewer than two plots"
    words = [out.get("text", "") for out in outputs] + [kinds.get("text/html", "") for kinds in data]
    for folder in (str(ROOT), str(Path.home())):
        if any(folder in text for text in words):
            yield f"names {folder} in an output"
    if any(out.get("name") == "stderr" for out in outputs):
        yield "writes to standard error"


def execute(notebook):
    """Runs the cells; what kernel and notebook say to each other goes through files, not a port."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config()
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = f"{folder}/kernel"
        resources = {"metadata": {"path": FOLDER}}
        NotebookClient(
            notebook, config=config, kernel_name="python3", timeout=300, resources=resources
        ).execute()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, help="write the executed notebooks into this folder")
    arguments = parser.parse_args()
    files = sorted(FOLDER.glob("*.ipynb"))
    wrong = [] if files else ["there are no notebooks"]
    for file in files:
        begun = time.monotonic()
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        found = list(complaints_before(notebook))
        try:
            execute(notebook)
            found += complaints_after(notebook)
        except CellExecutionError as error:
            found.append(str(error))
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, arguments.keep / file.name)
        print(f"{file.name}: {time.monotonic() - begun:.0f} s")
        wrong += [f"{file.name} {text}" for text in found]
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{len(files)} notebooks executed, {len(wrong)} complaints")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
