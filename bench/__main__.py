"""`make bench`: run the benchmarks and print each figure beside its target and its peer.

`ARGS=poll` runs one of them; with `--write` what was measured also goes into
docs/reference/performance.md, where the sections of others stay.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bench import adopt as adopt_bench
from bench import agent as agent_bench
from bench import allocate as allocate_bench
from bench import bootstrap as bootstrap_bench
from bench import gpu as gpu_bench
from bench import help as help_bench
from bench import jobs as jobs_bench
from bench import kube as kube_bench
from bench import lab as lab_bench
from bench import page
from bench import plan as plan_bench
from bench import poll as poll_bench
from bench import simulate as simulate_bench
from bench import soak as soak_bench
from bench import stacks as stacks_bench
from bench.figures import ROOT
from bench.serving import passwords

BENCHES = {
    "help": help_bench.measure,
    "plan": plan_bench.measure,
    "poll": poll_bench.measure,
    "kube": kube_bench.measure,
    "jobs": jobs_bench.measure,
    "adopt": adopt_bench.measure,
    "agent": agent_bench.measure,
    "gpu": gpu_bench.measure,
    "allocate": allocate_bench.measure,
    "bootstrap": bootstrap_bench.measure,
    "lab": lab_bench.measure,
    "simulate": simulate_bench.measure,
    "soak": soak_bench.measure,
    "stacks": stacks_bench.measure,
}
PAGE = ROOT / "docs" / "reference" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; default: all"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write what is measured into docs/reference/performance.md; other sections stay",
    )
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHES]:
        parser.error(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(BENCHES)})")
    passwords()
    print(*page.HEAD, sep="\n", flush=True)
    for name in given.names or BENCHES:
        sys.stderr.write(f"{name} ...\n")
        rows = [page.row(figure) for figure in BENCHES[name]()]
        print(*rows, sep="\n", flush=True)
        if given.write:
            _write(name, page.section(rows, os.getloadavg()[0]))
    return 0


def _write(name: str, section: str) -> None:
    """One benchmark at a time: one that fails loses nothing of those before it."""
    there = page.sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    PAGE.write_text(page.whole({**there, name: section}, list(BENCHES)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
