"""Many devices lost together are one incident, at the lowest node that explains it."""

from __future__ import annotations

import pytest

from control_plane.core.correlate import is_storm, lowest_common

# Two racks of ten on each of two switches of one PDU.
PATHS = {
    f"{rack}-{n}": (rack, switch, "pdu", "pad")
    for rack, switch in (("r1", "s1"), ("r2", "s1"), ("r3", "s2"), ("r4", "s2"))
    for n in range(10)
}
POPULATION = {"r1": 10, "r2": 10, "r3": 10, "r4": 10, "s1": 20, "s2": 20, "pdu": 40, "pad": 40}


def lost(*racks: str) -> list[str]:
    return [asset for asset in PATHS if asset.split("-")[0] in racks]


@pytest.mark.parametrize(
    ("failed", "found"),
    [
        (lost("r1"), ("r1", 10)),
        (lost("r1", "r2"), ("s1", 20)),
        (lost("r1", "r2", "r3", "r4"), ("pdu", 40)),
        (lost("r1", "r3"), ("pdu", 20)),
        (lost("r1")[:4], None),
        (lost("r1")[:6], ("r1", 6)),
        ([lost("r1")[0], lost("r2")[0], lost("r3")[0], lost("r4")[0], lost("r4")[1]], None),
        ([], None),
    ],
)
def test_the_lowest_node_that_explains_it(failed: list[str], found: tuple[str, int] | None) -> None:
    assert lowest_common(failed, PATHS, POPULATION) == found


@pytest.mark.parametrize(
    ("count", "population", "storm"),
    [(50, 2_000, False), (101, 2_000, True), (140, 14_000, False), (141, 14_000, True)],
)
def test_a_rack_is_repaired_a_storm_is_not(count: int, population: int, storm: bool) -> None:
    assert is_storm(count, population) is storm
