"""Which family answers: the simulated machines of every family, and whoever else may stand there."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.core.work_order import Speaks
from control_plane.drivers.recognise import family_of, recognise
from control_plane.drivers.registry import FAMILIES
from control_plane.simulator.network import Trouble
from control_plane.simulator.stage import set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.simulator.floors import a_site

ASSET = "M-000-000"
NONE_KNOWN = frozenset({"whatsminer_v2"})
"""Families that nobody changes a machine to, or from."""


def answer(family: str, trouble: Trouble | None = None) -> tuple[Speaks | None, int]:
    """What a simulated machine is taken for, and how many connections that took."""

    async def main(loop: VirtualLoop) -> tuple[Speaks | None, int]:
        site = a_site(racks=1, slots=1, odd_slots=False, families=(family,))
        stage = set_stage(site, loop, seed=5)
        station = stage.site.stations[ASSET]
        station.trouble = trouble
        found = await recognise(stage.net, station.address)
        assert not stage.site.world.ledger.select(asset=ASSET)
        return found, stage.net.connections

    return run_virtual(main, horizon_s=100.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_told_by_open_reads_without_a_password(family: str) -> None:
    found, connections = answer(family)
    if family in NONE_KNOWN:
        assert found is None
    else:
        assert connections == 1
        assert found is not None
        assert found.family == family
        assert found.version


@pytest.mark.parametrize("trouble", Trouble)
def test_whoever_does_not_answer_sensibly_is_nobody_known(trouble: Trouble) -> None:
    found, connections = answer("antminer_stock", trouble)
    assert connections <= 2
    assert found is None


def test_vnish_is_known_by_its_open_page_where_it_names_itself_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_plane.drivers.recognise.family_of", lambda _row: None)
    found, connections = answer("vnish")
    assert found is not None
    assert (found.family, bool(found.version), connections) == ("vnish", True, 2)
    assert answer("antminer_stock")[0] is None, "its page wants a login, and gets none"


@pytest.mark.parametrize(
    ("row", "want"),
    [
        ({"BOSminer": "bosminer-am2-s17 0.2.0-36c56a93", "API": "3.7"}, "braiins_os"),
        ({"BOSer": "boser-openwrt 0.1.0-26ba61b9", "API": "3.7"}, "braiins_os"),
        ({"LUXminer": "2023.1.31.034739-d0a29f3", "Type": "Antminer S19"}, "luxos"),
        ({"CGMiner": "4.11.1", "Miner": "VNISH 1.2.6"}, "vnish"),
        ({"BMMiner": "1.0.0", "Miner": "uart_trans.1.3", "Type": "Antminer S21",
          "CompileTime": "Fri Aug 25 17:28:38 CST 2023"}, "antminer_stock"),
        ({"BMMiner": "1.0.0", "Type": "Antminer S21"}, None),
        ({"CGMiner": "4.11.1", "Type": "AvalonMiner 1246", "CompileTime": "x"}, None),
        ({"BMMiner": 1, "Type": ["Antminer"], "CompileTime": {}}, None),
        ({}, None),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_rows_of_others_and_odd_ones(row: dict[str, Any], want: str | None) -> None:
    found = family_of(row)
    assert (found.family if found else None) == want
