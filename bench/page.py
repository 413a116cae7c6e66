"""docs/reference/performance.md: a section for each benchmark, with what it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence

from bench.figures import ROOT, Figure

HEAD = ("| what | measured | target | met | beside | peer | ratio | |", "|" + " --- |" * 8)
_ABOUT = """\
# Performance

Written by `make bench ARGS=--write`, one section by `make bench ARGS="poll --write"`. What each row compares
stands at the head of its file in `bench/`. A ratio above 1 says that ours is cheaper. CPU is user and system
time; other work on the same cores makes it dearer, for a peer as for us.
"""
_SECTION = "\n## "


def row(f: Figure) -> str:
    """One line of a table."""
    target = "" if f.target is None else f"≤ {f.target:,.4g} {f.unit}"
    met = {True: "yes", False: "**no**", None: ""}[f.met]
    peer = "" if f.peer_value is None else f"{f.peer_value:,.4g} {f.unit}"
    ratio = "" if f.ratio is None else f"{f.ratio:,.1f}"
    cells = (f.name, f"{f.value:,.4g} {f.unit}", target, met, f.peer, peer, ratio, f.note)
    return f"| {' | '.join(cells)} |"


def section(rows: Sequence[str], load: float) -> str:
    """What stands below the heading of a benchmark; `load` is that of the machine after it."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    measured_on = (
        f"Commit {commit.stdout.strip()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"on average {load:.1f} processes that wanted one."
    )
    return "\n".join((measured_on, "", *HEAD, *rows))


def sections(page: str) -> dict[str, str]:
    """Benchmark → its section, of a page as it was written."""
    parts = (part.partition("\n") for part in page.split(_SECTION)[1:])
    return {name: text.strip("\n") for name, _, text in parts}


def whole(found: Mapping[str, str], order: Sequence[str]) -> str:
    """The page; sections of no benchmark in `order` are left out."""
    parts = (f"{_SECTION}{name}\n\n{found[name]}\n" for name in order if name in found)
    return _ABOUT + "".join(parts)
