"""An inventory that was made to be slow is refused, or loaded, in time that grows with its length."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from control_plane.core import limits
from control_plane.inventory.load import load_files
from tests.inventory.base import FILES, POWER, RACKS, SITE, files

MANY = 4_000
CPU_S = 6.0
"""The checks that were cubic took more than a minute for a quarter of it."""


def chain() -> dict[str, str]:
    nodes = "".join(
        f"  - {{id: n{n}, kind: pad, parent: {f'n{n - 1}' if n else 'grid'}, rating_kw: 1}}\n"
        for n in range(MANY)
    )
    return {"sites/lab/power.yaml": POWER + nodes}


def ring() -> dict[str, str]:
    nodes = "".join(
        f"  - {{id: n{n}, kind: pad, parent: n{(n + 1) % MANY}, rating_kw: 1}}\n"
        for n in range(MANY)
    )
    return {"sites/lab/power.yaml": POWER + nodes}


def networks(cidr: Callable[[int], str]) -> dict[str, str]:
    more = "".join(f"  - {{name: x{n}, cidr: {cidr(n)}, purpose: miners}}\n" for n in range(MANY))
    head, mark, rest = SITE.partition("jump_host")
    return {"sites/lab/site.yaml": head + more + mark + rest}


def strangers() -> dict[str, str]:
    """As many networks as racks outside all of them."""
    racks = "".join(
        f"  - {{id: s{n}, feed: box-1-p1, slots: 1, owner: acme, type: s21, profile: standard, "
        f"addressing: {{static_by_slot: 172.16.{n // 256}.{n % 256}}}, placement: by_slot}}\n"
        for n in range(MANY)
    )
    apart = networks(lambda n: f"11.{n // 256}.{n % 256}.0/24")
    return {"sites/lab/racks/box-1.yaml": RACKS + racks, **apart}


@pytest.mark.parametrize(
    ("hostile", "codes"),
    [
        (chain, {"E0503"}),
        (ring, {"E0501"}),
        (lambda: networks(lambda n: f"11.{n // 256}.{n % 256}.0/24"), set()),
        (lambda: networks(lambda _: "11.0.0.0/8"), {"E0404"}),
        (strangers, {"E0403"}),
    ],
    ids=["chain", "ring", "networks apart", "networks in one place", "strangers"],
)
def test_its_check_takes_no_longer_than_its_length(
    hostile: Callable[[], dict[str, str]], codes: set[str]
) -> None:
    tree = files(**{**FILES, **hostile()})
    began = time.process_time()
    found = load_files(tree).findings
    assert time.process_time() - began < CPU_S
    assert codes <= {finding.code for finding in found}
    assert len(found) <= limits.FINDINGS_MAX + 1
    assert all(len(finding.what) < 1_000 for finding in found)
