"""`make bench`: run the benchmarks and print each figure beside its target and its peer.

`ARGS=--write` also writes docs/reference/performance.md; `ARGS=poll` runs one of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence

from bench import help as help_bench
from bench import plan as plan_bench
from bench import poll as poll_bench
from bench import soak as soak_bench
from bench.figures import ROOT, Figure
from bench.serving import passwords

BENCHES = {
    "help": help_bench.measure,
    "plan": plan_bench.measure,
    "poll": poll_bench.measure,
    "soak": soak_bench.measure,
}
PAGE = ROOT / "docs" / "reference" / "performance.md"


def _rows(figures: Sequence[Figure]) -> list[str]:
    lines = ["| what | measured | target | met | beside | peer | ratio | |", "|" + " --- |" * 8]
    for f in figures:
        target = "" if f.target is None else f"≤ {f.target:,.4g} {f.unit}"
        met = {True: "yes", False: "**no**", None: ""}[f.met]
        peer = "" if f.peer_value is None else f"{f.peer_value:,.4g} {f.unit}"
        ratio = "" if f.ratio is None else f"{f.ratio:,.1f}"
        cells = (f.name, f"{f.value:,.4g} {f.unit}", target, met, f.peer, peer, ratio, f.note)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="default: all")
    parser.add_argument("--write", action="store_true", help="write docs/reference/performance.md")
    given = parser.parse_args()
    passwords()
    figures: list[Figure] = []
    for name in given.names or BENCHES:
        sys.stderr.write(f"{name} ...\n")
        figures += BENCHES[name]()
    lines = _rows(figures)
    sys.stdout.write("\n".join(lines) + "\n")
    if given.write:
        command = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        head = (
            "# Performance\n\nWritten by `make bench ARGS=--write`. A ratio above 1 says that ours is "
            f"cheaper. Commit {commit.stdout.strip()}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores.\n\n"
        )
        PAGE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
