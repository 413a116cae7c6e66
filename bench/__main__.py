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

from bench import adopt as adopt_bench
from bench import bootstrap as bootstrap_bench
from bench import help as help_bench
from bench import kube as kube_bench
from bench import lab as lab_bench
from bench import plan as plan_bench
from bench import poll as poll_bench
from bench import soak as soak_bench
from bench import stacks as stacks_bench
from bench.figures import ROOT, Figure
from bench.serving import passwords

BENCHES = {
    "help": help_bench.measure,
    "plan": plan_bench.measure,
    "poll": poll_bench.measure,
    "kube": kube_bench.measure,
    "adopt": adopt_bench.measure,
    "bootstrap": bootstrap_bench.measure,
    "lab": lab_bench.measure,
    "soak": soak_bench.measure,
    "stacks": stacks_bench.measure,
}
PAGE = ROOT / "docs" / "reference" / "performance.md"


_HEAD = ["| what | measured | target | met | beside | peer | ratio | |", "|" + " --- |" * 8]


def _row(f: Figure) -> str:
    target = "" if f.target is None else f"≤ {f.target:,.4g} {f.unit}"
    met = {True: "yes", False: "**no**", None: ""}[f.met]
    peer = "" if f.peer_value is None else f"{f.peer_value:,.4g} {f.unit}"
    ratio = "" if f.ratio is None else f"{f.ratio:,.1f}"
    cells = (f.name, f"{f.value:,.4g} {f.unit}", target, met, f.peer, peer, ratio, f.note)
    return f"| {' | '.join(cells)} |"


def _page(rows: Sequence[str], load: float) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    head = (
        "# Performance\n\nWritten by `make bench ARGS=--write`; what each row compares stands at the head "
        "of its file in `bench/`. A ratio above 1 says that ours is cheaper. CPU is user and system time; "
        "other work on the same cores makes it dearer, for a peer as for us. "
        f"Commit {commit.stdout.strip()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"on average {load:.1f} processes that wanted one.\n\n"
    )
    return head + "\n".join((*_HEAD, *rows)) + "\n"


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="default: all")
    parser.add_argument("--write", action="store_true", help="write docs/reference/performance.md")
    given = parser.parse_args()
    passwords()
    rows: list[str] = []
    loads: list[float] = []
    print(*_HEAD, sep="\n", flush=True)
    for name in given.names or BENCHES:
        sys.stderr.write(f"{name} ...\n")
        fresh = [_row(figure) for figure in BENCHES[name]()]
        print(*fresh, sep="\n", flush=True)
        rows += fresh
        loads.append(os.getloadavg()[0])
    if given.write:
        PAGE.write_text(_page(rows, sum(loads) / len(loads)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
