"""What the notebooks share: run the program, read the committed files, draw in one style."""

import json
import os
import subprocess
from html import escape
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.ticker import LogLocator, NullLocator

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"prefill": "#0b62b8", "decode": "#b45309"}
MARKERS = {"prefill": "o", "decode": "^"}
MUTED = "#6a727c"

plt.rcParams.update({
    "figure.figsize": (9, 3.6), "figure.dpi": 110, "figure.constrained_layout.use": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e3e6ea", "axes.axisbelow": True, "legend.frameon": False,
})


def foretoken(*arguments):
    """The JSON answer of one command, run in the root of the repository.

    The binary is the one that the environment variable FORETOKEN names; without it, cargo builds
    and runs the one of this checkout.
    """
    binary = os.environ.get("FORETOKEN")
    program = [binary] if binary else ["cargo", "run", "--release", "--quiet", "--"]
    command = [*program, *map(str, arguments), "--format", "json", "--quiet"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"foretoken {' '.join(map(str, arguments))}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def calibration(name):
    """A calibration of the repository."""
    return json.loads((ROOT / "calibration" / f"{name}.json").read_text())


def dataset(name):
    """The lines of a dataset of the repository."""
    with open(ROOT / "datasets" / f"{name}.jsonl") as lines:
        return [json.loads(line) for line in lines]


def log_scale(axes, which="x", unit=1, suffix=""):
    """Logarithmic, with ticks at 1, 2 and 5 of each decade, written in this unit."""
    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value / unit:g}{suffix}")


def percent(fraction):
    """A fraction as people read it."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def table(rows, columns):
    """Rows of cells under their headers."""
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"
    return HTML("<table>" + line("th", columns) + "".join(line("td", row) for row in rows) + "</table>")


__all__ = [
    "COLOURS", "HTML", "MARKERS", "MUTED", "calibration", "dataset", "foretoken", "log_scale",
    "median", "percent", "plt", "table",
]
