"""What every test run shares: hypothesis profiles, the wall budget, two workers, the clients' interpreter."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent

# Before anybody loads it: with threads of its own it breaks processes that others of a worker's tests fork.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ("tests.lab.fixtures", "tests.lab.machines")
"""Here and not in tests/lab: other areas use the same API server, and the same cluster."""

# HYPOTHESIS_PROFILE=campaign searches long; `ci` (where CI is set) gives the same verdict each time.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.register_profile("campaign", max_examples=5_000, deadline=None, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
settings.load_profile(PROFILE)

# Wall seconds per area, an area being a folder of tests/, on two cores with two workers, which share them:
# their sum is some twice what the run takes. Together at most 80 min, so 41 of the clock; 15 are aimed at.
# A run fails when an area takes twice its budget: less than that may be the machine's mood.
BUDGET_S: Mapping[str, float] = {
    "agent": 15,
    "api": 5,
    "cli": 430,
    "core": 16,
    "docs": 40,
    "drivers": 80,
    "engine": 120,
    "guard": 15,
    "hosts": 10,
    "inventory": 20,
    "kube": 760,
    "lab": 1_900,
    "provider": 60,
    "provision": 30,
    "scenarios": 360,
    "simulator": 90,
    "stacks": 600,
    "views": 5,
    "(other)": 10,
}
TOTAL_S = 4_800
FAIL_FACTOR = 2

CANNOT_RUN = "this machine cannot run it: "
"""What a skip's reason begins with: said at the end of the run, which fails for it in CI."""
LAB = "tests/lab/"
"""Its tests are one worker's: they share hosts, and leave most of a core to all others."""

_used_s: defaultdict[str, float] = defaultdict(float)
_not_run: Counter[str] = Counter()


def _over() -> list[str]:
    if PROFILE == "campaign":
        return []
    return sorted(area for area, used in _used_s.items() if used > FAIL_FACTOR * BUDGET_S[area])


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """After the order was shuffled: the lab first, as it takes longest."""
    yield
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, bool, bool, bool]:
    """Labs of their own before the one that all share, which stands to the end: idle it takes half a core."""
    shares = "cluster_lab" in getattr(item, "fixturenames", [])
    boots = any(item.get_closest_marker(name) for name in ("cluster", "root"))
    spends = item.get_closest_marker("spends_lab") is not None
    return not item.nodeid.startswith(LAB), not boots, shares, spends


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """One worker for the lab, whose hosts boot and settle; the other takes what remains, file by file."""

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return LAB if nodeid.startswith(LAB) else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count set-up, call and tear-down to the test's area, and what could not run."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(CANNOT_RUN):
            _not_run[reason.removeprefix(CANNOT_RUN)] += 1
    folders = report.nodeid.split("::", 1)[0].split("/")[1:-1]
    area = folders[0] if folders and folders[0] in BUDGET_S else "(other)"
    _used_s[area] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run over twice a budget into a failed one."""
    lacking = bool(os.environ.get("CI")) and bool(_not_run)
    if (_over() or lacking) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what did not run, and the budget table, above pytest's closing line."""
    if _not_run:
        terminalreporter.section("NOT RUN", sep="!", red=True)
        for reason, count in _not_run.items():
            terminalreporter.line(f"{count} tests did not run: {reason}")
    if not _used_s:
        return
    over = _over()
    terminalreporter.section("wall budget per area")
    for area, used in sorted(_used_s.items()):
        mark = f"  FAILED: over {FAIL_FACTOR} x its budget" if area in over else ""
        terminalreporter.line(f"{area:<12}{used:>8.1f} s of {BUDGET_S[area]:>4.0f} s{mark}")
    terminalreporter.line(f"{'total':<12}{sum(_used_s.values()):>8.1f} s of {TOTAL_S:>4.0f} s")


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The interpreter that has pyasic and pyasic-rs; mark such tests `clients`."""
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        pytest.fail(f"{python} is missing: run `make venv-clients`", pytrace=False)
    return python
