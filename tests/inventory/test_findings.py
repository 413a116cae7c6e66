"""What people are told, word for word: one golden text per way to get an inventory wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control_plane.inventory import errors
from control_plane.inventory.load import load_files
from control_plane.views.findings import render_findings
from tests.inventory.base import files, loaded
from tests.inventory.cases import CASES

GOLDEN = Path(__file__).with_name("findings.golden")
HEAD = "=== "
WARNINGS = {
    "unknown time zone": errors.UNKNOWN_TIME_ZONE,
    "remedies without a way to BMCs": errors.REMEDIES_BY_HAND,
    "remedies whose BMCs nobody knows": errors.REMEDIES_BY_HAND,
    "meter of no node": errors.UNUSED_METER,
    "MIG that nobody asks for": errors.MIG_BY_HAND,
}


def told(name: str) -> str:
    """All that is said about a case."""
    return render_findings(load_files(CASES[name]).findings, color=False)


def golden() -> dict[str, str]:
    """Case → what was agreed to be said. `UPDATE_GOLDEN=1` writes it anew, for review as a diff."""
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text("".join(f"{HEAD}{n}\n{told(n)}\n\n" for n in CASES), encoding="utf-8")
    parts = ("\n" + GOLDEN.read_text(encoding="utf-8")).split(f"\n{HEAD}")[1:]
    return {name: text.strip("\n") for name, _, text in (part.partition("\n") for part in parts)}


AGREED = golden()


def test_the_base_is_valid() -> None:
    assert loaded().findings == ()
    assert loaded().fleet is not None


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_is_explained(name: str) -> None:
    assert told(name) == AGREED[name]


@pytest.mark.parametrize("name", sorted(CASES.keys() - WARNINGS))
def test_no_mistake_gives_a_fleet(name: str) -> None:
    assert load_files(CASES[name]).fleet is None


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_lets_pass(name: str) -> None:
    result = load_files(CASES[name])
    assert result.fleet is not None
    assert [f.code for f in result.findings] == [WARNINGS[name].code]


@pytest.mark.parametrize(
    ("where", "before", "after"),
    [
        ("sites/lab/gpu/hall.yaml", "first_bmc: 10.11.0.21",
         f"first_bmc: 10.11.0.21, bmc_certificates: [{'a' * 64}, {'b' * 64}]"),
        ("profiles/gpu.yaml", "remedies: act", "remedies: tell"),
    ],
    ids=["certificates", "tell"],
)  # fmt: skip
def test_remedies_that_can_act_or_only_tell_are_not_warned_of(
    where: str, before: str, after: str
) -> None:
    tree = CASES["remedies whose BMCs nobody knows"]
    assert before in tree[where].decode()
    tree = tree | {where: tree[where].decode().replace(before, after).encode()}
    assert load_files(tree).findings == ()


def test_golden_texts_are_of_cases() -> None:
    assert set(AGREED) == set(CASES)


def test_every_code_can_be_earned() -> None:
    earned = {f.code for name in CASES for f in load_files(CASES[name]).findings}
    elsewhere = {
        errors.UNREADABLE, errors.SECRET_UNSET, errors.TOO_MANY, errors.GIT, errors.DAMAGED_REVISION,
        errors.NO_CLUSTER, errors.UNFIT_BUNDLE,
    }  # fmt: skip
    # What stacks are told wrong is earned in tests/provision and tests/stacks.
    mine = {code for code in errors.REGISTER if not code.startswith("E08")}
    assert mine - earned == {c.code for c in elsewhere}


def test_findings_are_capped_and_counted() -> None:
    rows = "".join(f"x{n},r1,{n},,,,,in_service,,,2026-01-02,\n" for n in range(5, 1005))
    tree = files() | {"sites/lab/placement/more.csv": (_header() + rows).encode()}
    findings = load_files(tree).findings
    assert findings[-1].code == errors.TOO_MANY.code
    assert len(findings) < 1_000


def _header() -> str:
    return files()["sites/lab/placement/box-1.csv"].decode().splitlines()[0] + "\n"
