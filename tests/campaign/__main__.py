"""`make campaign`: many seeds, every crash point, every ablation, replays; written to the reference.

One seed again, with all that happened in it: `python -m tests.campaign --seed 1234 --trace`; a hall of GPU
nodes: `--hall 1234`. The halls alone: `--only-halls`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.campaign import controllers, firmware, hall
from tests.campaign.work import crash, timed, try_nth
from tests.scenarios.ablations import ABLATIONS, DEPTH_SEEDS, Caught
from tests.scenarios.crashes import Outcome, Point, points, run
from tests.scenarios.hall_play import play_hall
from tests.scenarios.play import Report, play
from tests.scenarios.replay import replay

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "campaign.md"
SEEDS = 2_000
REIGNS = 500
REPLAYED = 20
HASH_SEEDS = ("0", "1", "4711")
A = TypeVar("A")
B = TypeVar("B")


class Result(NamedTuple):
    """What a campaign found."""

    first: int
    seeds: list[Report]
    seeds_cpu_s: float
    reference: Outcome
    crashes: dict[Point, str | None]
    ablations: list[Caught]
    replayed: int
    replays_differ: list[str]
    controllers: controllers.Controllers
    flashes: firmware.Flashes
    halls: hall.Halls


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="make campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print its trace")
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth crash point")
    parser.add_argument("--ablations", type=int, default=len(ABLATIONS), help="only so many")
    parser.add_argument(
        "--relays", type=int, default=controllers.RELAYS, help="runs of failovers of controllers"
    )
    parser.add_argument("--reigns", type=int, default=REIGNS, help="how many seeds of controllers")
    parser.add_argument("--halls", type=int, default=hall.HALLS, help="how many halls of GPU nodes")
    parser.add_argument("--hall", type=int, help="play this hall alone, with its trace")
    parser.add_argument("--only-halls", action="store_true", help="halls, and no page")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--no-page", action="store_true", help=f"leave {PAGE.name} as it is")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _one(asked.seed, trace=asked.trace)
    if asked.hall is not None:
        return _one_hall(asked.hall)
    if asked.only_halls:
        return _halls(asked)
    result = _campaign(asked)
    page = _page(result)
    if not asked.no_page:
        PAGE.write_text(page, encoding="utf-8")
    print(page)
    wrong = _wrong(result)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _one(seed: int, *, trace: bool) -> int:
    report = play(seed, keep=trace)
    print("\n".join(report.lines))
    print(f"seed {seed}: {', '.join(report.classes)}; trace {report.digest}", file=sys.stderr)
    print("\n".join(report.violations) or "no violation", file=sys.stderr)
    return 1 if report.violations else 0


def _one_hall(seed: int) -> int:
    report = play_hall(seed, keep=True)
    print("\n".join(report.lines))
    print("\n".join(report.violations) or "no violation", file=sys.stderr)
    return 1 if report.violations else 0


def _halls(asked: argparse.Namespace) -> int:
    with _spreading(asked.jobs) as spread:
        result = hall.campaign(spread, halls=asked.halls, ablations=asked.ablations)
    print("\n".join(hall.lines(result)))
    wrong = hall.wrong(result)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


@contextmanager
def _spreading(jobs: int) -> Iterator[hall.Spread]:
    """A function that does work on items in several processes, and tells how far it is."""
    with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as pool:

        def spread(what: str, work: Callable[[A], B], items: list[A]) -> list[B]:
            return list(_told(what, pool.map(work, items), len(items)))

        yield spread


def _campaign(asked: argparse.Namespace) -> Result:
    first, count = asked.first, asked.seeds
    with _spreading(asked.jobs) as spread:
        seeds = spread("seeds", timed, list(range(first, first + count)))
        reference = run(Point(0))
        where = points(reference)[:: asked.every]
        crashes = spread("crash points", partial(crash, reference), where)
        ablations = spread("ablations", try_nth, list(range(asked.ablations)))
        clustered = controllers.campaign(
            spread,
            every=asked.every,
            relays=asked.relays,
            reigns=asked.reigns,
            ablations=asked.ablations,
        )
        flashes = firmware.campaign(spread, every=asked.every)
        halls = hall.campaign(spread, halls=asked.halls, ablations=asked.ablations)
    replayed = [report for report, _ in seeds[:REPLAYED]]
    differ = []
    for hash_seed in HASH_SEEDS:
        again = replay([int(report.seed) for report in replayed], hash_seed)
        differ += [
            f"seed {report.seed} under PYTHONHASHSEED={hash_seed}"
            for report, digest in zip(replayed, again, strict=True)
            if digest != report.digest
        ]
    return Result(
        first=first,
        seeds=[report for report, _ in seeds],
        seeds_cpu_s=sum(cpu_s for _, cpu_s in seeds),
        reference=reference,
        crashes=dict(zip(where, crashes, strict=True)),
        ablations=ablations_of(ablations),
        replayed=len(replayed),
        replays_differ=differ,
        controllers=clustered,
        flashes=flashes,
        halls=halls,
    )


def ablations_of(found: Iterable[tuple[int, int | None, str]]) -> list[Caught]:
    """The same, with their names again."""
    return [Caught(ABLATIONS[number], seed, violation) for number, seed, violation in found]


def _told(what: str, results: Iterable[B], count: int) -> Iterator[B]:
    began = time.monotonic()
    for number, result in enumerate(results, 1):
        if number % 25 == 0 or number == count:
            took_s = time.monotonic() - began
            left_s = took_s / number * (count - number)
            print(f"{what}: {number} of {count}, {left_s:.0f} s left", file=sys.stderr)
        yield result


def _wrong(result: Result) -> list[str]:
    wrong = [
        f"seed {r.seed}: {r.violations[0]} (python -m tests.campaign --seed {r.seed} --trace)"
        for r in result.seeds
        if r.violations
    ]
    wrong += [f"crash at {p.number}, after={p.after}: {w}" for p, w in result.crashes.items() if w]
    wrong += [
        f"ablation '{caught.ablation.name}': {caught.violation or 'nobody noticed'}"
        for caught in result.ablations
        if (caught.seed is None) == bool(caught.ablation.rules)
    ]
    wrong += controllers.wrong(result.controllers) + firmware.wrong(result.flashes)
    wrong += hall.wrong(result.halls)
    return wrong + [f"another trace: {text}" for text in result.replays_differ]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "an unpacked tree"


_HEAD = (
    "# Campaign",
    "",
    "Written by `make campaign`: seeds on a small simulated site, crash points of one apply, and",
    "safeguards switched off one by one. What each means stands in `tests/scenarios/`.",
    "",
)
_TABLE = (
    "",
    "## Ablations",
    "",
    "Each safeguard switched off; the first seed that notices, and the rule that breaks.",
    "",
    "| safeguard | seed | noticed as |",
    "|---|---|---|",
)


_CONTROLLERS = (
    "",
    "## Controllers",
    "",
    "Processes that keep everything in the API server, one of which leads; the API server is the twin in",
    "memory. One that dies leaves nothing but what stands there.",
    "",
    "| | |",
    "|---|---|",
)


_FIRMWARE = (
    "",
    "## Firmware",
    "",
    "One flash by a Job's pod, and every request, piece of an image and write to the API server before and",
    "after which the pod dies (another one goes on) or the machine loses its power for half a minute.",
    "",
)


_HALLS = (
    "",
    "## Halls of GPU nodes",
    "",
    "The remedies of `core.remedy` around nodes that fail, lose their power and fall silent, while people,",
    "an operator and other writers are at work, and the controller dies between any two steps.",
    "",
)


def _page(result: Result) -> str:
    seeds = result.seeds
    broken = sum(1 for report in seeds if report.violations)
    lost = sum(1 for wrong in result.crashes.values() if wrong)
    counts = {what: result.reference.effects.count(what) for what in ("commit", "send", "write")}
    total = {
        what: sum(getattr(report, what) for report in seeds)
        for what in ("events", "looks", "intents", "writes", "starts", "wire_s")
    }
    points_of = f"{counts['commit']} commits, {counts['send']} reads, {counts['write']} writes"
    everywhere = 2 * sum(counts.values())
    hashes = f"{result.replayed} seeds × {len(HASH_SEEDS)} hash seeds"
    rows = {
        "seeds": f"{len(seeds):,} (from {result.first})",
        "seeds with a violation": broken,
        "events checked": f"{total['events']:,}",
        "looks": f"{total['looks']:,}",
        "intents": f"{total['intents']:,}",
        "writes that arrived": f"{total['writes']:,}",
        "engine processes started": f"{total['starts']:,}",
        "simulated seconds on the wire": f"{total['wire_s']:,.0f}",
        "CPU seconds per seed": f"{result.seeds_cpu_s / max(1, len(seeds)):.2f}",
        "crash points": f"{len(result.crashes):,} of {everywhere:,}: before and after {points_of}",
        "crash points with another end": lost,
        "replays in other processes": f"{hashes}, {len(result.replays_differ)} different",
    }
    lines = [*_HEAD, f"Commit {_commit()}.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    found = [(report.seed, report.violations[0]) for report in seeds if report.violations]
    lines += ["", *(f"- seed {seed}: {text[:60]} …" for seed, text in found)] if found else []
    lines += _TABLE
    for caught in result.ablations:
        told = caught.violation.partition(" ")[2].partition(":")[0]
        if caught.seed is None:
            told = (
                "**nobody noticed**"
                if caught.ablation.rules
                else f"nobody can while the other layers stand ({DEPTH_SEEDS} seeds)"
            )
        lines.append(f"| {caught.ablation.name} | {_or_dash(caught.seed)} | {told} |")
    lines += _CONTROLLERS
    facts = controllers.rows(result.controllers)
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += controllers.lines(result.controllers)
    lines += _FIRMWARE
    lines += firmware.lines(result.flashes)
    lines += _HALLS
    lines += hall.lines(result.halls)
    return "\n".join([*lines, ""])


def _or_dash(seed: int | None) -> str:
    return "–" if seed is None else str(seed)


if __name__ == "__main__":
    sys.exit(main())
