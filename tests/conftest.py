"""What every test run shares: hypothesis profiles, the wall budget, the clients' interpreter."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

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

# Wall seconds per area, an area being a folder of tests/, on two cores. Together at most 15 min.
# A run fails when an area takes twice its budget: less than that may be the machine's mood.
BUDGET_S: Mapping[str, float] = {
    "api": 5,
    "cli": 180,
    "core": 5,
    "docs": 40,
    "drivers": 10,
    "engine": 20,
    "inventory": 10,
    "kube": 80,
    "lab": 360,
    "scenarios": 130,
    "simulator": 40,
    "views": 10,
    "(other)": 10,
}
TOTAL_S = 900
FAIL_FACTOR = 2

NOT_RUN = pytest.StashKey[str]()
"""What could not run on this machine, and why: said at the end of the run, which fails for it in CI."""

_used_s: defaultdict[str, float] = defaultdict(float)


def _over() -> list[str]:
    if PROFILE == "campaign":
        return []
    return sorted(area for area, used in _used_s.items() if used > FAIL_FACTOR * BUDGET_S[area])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count set-up, call and tear-down to the test's area."""
    folders = report.nodeid.split("::", 1)[0].split("/")[1:-1]
    area = folders[0] if folders and folders[0] in BUDGET_S else "(other)"
    _used_s[area] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run over twice a budget into a failed one."""
    not_run = os.environ.get("CI") and NOT_RUN in session.config.stash
    if (_over() or not_run) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what did not run, and the budget table, above pytest's closing line."""
    if NOT_RUN in terminalreporter.config.stash:
        terminalreporter.section("NOT RUN", sep="!", red=True)
        terminalreporter.line(terminalreporter.config.stash[NOT_RUN])
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
