"""`release` ends one thing, the one that was meant, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.core.correlate import Incident
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.memory import Memory
from control_plane.core.observation import Field
from control_plane.engine.records import OrderKind, Released
from control_plane.engine.store import Store

RACK, DEVICE = "r01", "r01-s1"


@pytest.fixture
def store(home: Path) -> Store:
    assert main(["plan", "--no-look"]) == Exit.OK
    return Workplace(site="first-site", state=None).store


def hold(node: str, by: str, kind: str = "maintenance") -> None:
    ttl = ("--ttl", "4h") if kind == "maintenance" else ()
    words = ("hold", node, "--kind", kind, "--by", by, "--reason", "x", *ttl)
    assert main(words) == Exit.OK


def held(store: Store) -> list[str]:
    return [overlay.id for overlay in store.overlays()]


def test_a_node_with_several_holds_is_refused_and_all_are_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(RACK, "ann")
    hold(RACK, "bob")
    assert main(["freeze", RACK, "--reason", "x", "--by", "cy"]) == Exit.OK
    assert main(["release", RACK, "--by", "ann"]) == Exit.REFUSED
    told = capsys.readouterr().err
    for words in ("h0001", "ann", "h0002", "bob", "h0003", "cy"):
        assert words in told
    assert held(store) == ["h0001", "h0002", "h0003"]
    assert main(["release", "h0002", "--by", "ann"]) == Exit.OK
    assert held(store) == ["h0001", "h0003"]


def test_a_node_with_one_hold_is_enough(store: Store) -> None:
    hold(RACK, "ann")
    hold(DEVICE, "bob")
    assert main(["release", RACK]) == Exit.OK
    assert held(store) == ["h0002"]


def test_a_safety_hold_beside_another_loses_nobody_anything(store: Store) -> None:
    hold(RACK, "ann", "safety")
    hold(RACK, "bob")
    for target in (RACK, "h0001"):
        assert main(["release", target, "--by", "bob"]) == Exit.REFUSED
    assert held(store) == ["h0001", "h0002"]
    assert main(["release", "h0001", "--by", "ann"]) == Exit.OK


def test_a_hold_and_a_latch_of_one_device_are_two_things(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put_memories([Memory(asset=DEVICE, contested=frozenset({Field.POOLS}))])
    hold(DEVICE, "ann")
    assert main(["release", DEVICE]) == Exit.REFUSED
    assert "contested" in capsys.readouterr().err
    assert held(store) == ["h0001"]
    assert store.orders() == []
    assert main(["release", "h0001"]) == Exit.OK
    assert main(["release", DEVICE]) == Exit.OK
    assert [order.kind for _, order in store.orders()] == [OrderKind.CONTESTED]


def test_an_incident_on_a_held_rack_is_released_by_its_id(store: Store) -> None:
    store.put_incident(
        Incident(id="i0001", node=RACK, cause="unreachable", since_s=0.0, assets=8, detail="")
    )
    hold(RACK, "ann")
    assert main(["release", RACK]) == Exit.REFUSED
    assert main(["release", "i0001"]) == Exit.OK
    assert [order.target for _, order in store.orders()] == ["i0001"]
    assert held(store) == ["h0001"]


def test_what_nothing_holds_is_said(store: Store) -> None:
    assert main(["release", RACK]) == Exit.USAGE


def test_an_unplugged_device_that_left_the_declaration_counts_no_more(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put_released(
        Released(asset=a, feed="pdu-1", power_w=3_500.0, since_s=0.0) for a in ("old-1", "old-2")
    )
    assert main(["release", "old-1", "--by", "ann"]) == Exit.OK
    assert "3.5 kW on pdu-1 are free" in capsys.readouterr().out
    assert [r.asset for r in store.released()] == ["old-2"]
    assert [e.text for _, e in store.events(limit=1)] == ["old-1 is unplugged, says ann"]


def firmware(**changes: Any) -> FirmwareRollout:
    new = FirmwareRollout(
        id="f0001", bundle="b", members="m", model="S21", version="2", waves=(1, 11, 61)
    )
    return msgspec.structs.replace(new, **changes)


@pytest.mark.parametrize(
    ("words", "stands", "through", "told"),
    [
        pytest.param([], {}, None, "install 2 for S21: wave 1 of 3, 1 machine", id="the open wave"),
        pytest.param(
            ["--through", "2"], {}, 2, "waves up to 2 of 3, 11 machines", id="through a wave"
        ),
        pytest.param(["--all"], {}, 3, "waves up to 3 of 3, 61 machines", id="all"),
        pytest.param(
            [], {"state": FirmwareState.HALTED, "wave": 1, "released": 2}, None,
            "go on and install 2 for S21: wave 2 of 3, 10 machines", id="a halted one goes on",
        ),
    ],
)  # fmt: skip
def test_waves_of_a_firmware_rollout_are_let_go(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    stands: dict[str, Any],
    through: int | None,
    told: str,
) -> None:
    store.put_firmware(firmware(**stands))
    assert main(["release", "f0001", "--by", "ann", *words]) == Exit.OK
    assert told in capsys.readouterr().out
    ((_, order),) = store.orders()
    assert (order.kind, order.target, order.by) == (OrderKind.FIRMWARE, "f0001", "ann")
    assert order.through == through


@pytest.mark.parametrize(
    ("words", "stands", "end", "told"),
    [
        (["f0001"], {"state": FirmwareState.DONE}, Exit.REFUSED, "is done: there is nothing"),
        (["f0001"], {"released": 1}, Exit.REFUSED, "wave 1 of 3 is let go already"),
        (["f0001", "--all", "--through", "2"], {}, Exit.USAGE, "contradict"),
        ([RACK, "--through", "2"], {}, Exit.USAGE, "see `gridplane rollout show`"),
        (["f0009"], {}, Exit.USAGE, "`gridplane rollout show`"),
    ],
)  # fmt: skip
def test_what_is_no_wave_to_let_go_is_refused(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    stands: dict[str, Any],
    end: Exit,
    told: str,
) -> None:
    store.put_firmware(firmware(**stands))
    assert main(["release", *words]) == end
    assert told in capsys.readouterr().err
    assert not store.orders()
