"""What is committed: nothing that a run leaves behind, nothing of one machine, locks without addresses."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import BUDGET_S, TOTAL_S

ROOT = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> list[str]:
    program = shutil.which("git")
    assert program is not None
    done = subprocess.run(
        [program, "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_nothing_is_committed_that_is_ignored() -> None:
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []


def test_locks_have_hashes_and_no_addresses() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        pins = re.findall(r"^[\w.\[\]-]+==\S+.*$", text, re.MULTILINE)
        assert pins, lock
        assert len(pins) == len(re.findall(r"==[^\n]*\\\n +--hash=sha256:", text)), lock
        assert "://" not in text, lock


def test_the_budgets_of_all_areas_fit_into_what_a_whole_run_may_take() -> None:
    assert sum(BUDGET_S.values()) <= TOTAL_S
    areas = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert areas <= set(BUDGET_S)
