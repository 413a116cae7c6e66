"""Between the engine and a guard: what it is given, and what it did becomes what is wanted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control_plane.core.fleet import Site
from control_plane.core.guard_bundle import Rung
from control_plane.core.guard_state import Decision
from control_plane.core.observation import Settings
from control_plane.core.overlay import OverlayKind
from control_plane.core.world import World
from control_plane.drivers.registry import all_capabilities
from control_plane.engine.store import Store
from control_plane.guard.beside import Beside
from control_plane.guard.given import Lowered, Shown, give, given_in, show
from tests.simulator.floors import a_site

NOW_S = 1_000.0


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "guard"
        self.store = Store(folder / "state.sqlite")
        self.site: Site = a_site(racks=2, slots=2, odd_slots=False)
        self.now_s = NOW_S
        self.beside = Beside(
            self.folder, lambda: self.store, lambda _store: (self.site, self.world(), "r1"),
            now_s=lambda: self.now_s, say=lambda *_a, **_k: None,
        )  # fmt: skip

    def world(self) -> World:
        return World(now_s=self.now_s, sightings={}, memories={}, capabilities=all_capabilities())

    def shows(self, lowered: dict[str, Rung], *guarded: str, at_s: float = NOW_S) -> None:
        decision = Decision(orders=(), pages=(), guarded=frozenset(guarded))
        show(
            self.folder,
            Shown(
                at_s=NOW_S,
                site="toy",
                revision="r1",
                decision=decision,
                lowered={a: Lowered(rung=r, at_s=at_s) for a, r in lowered.items()},
            ),
        )

    def overlays(self) -> dict[str, tuple[str, frozenset[str], Settings]]:
        return {o.id: (o.node, o.assets, o.fields) for o in self.store.overlays()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


STOP, LOW = Rung(power_w=25.0), Rung(mode="low", power_w=2600.0)


def test_a_guard_is_given_what_is_known_and_only_where_it_changed(bench: Bench) -> None:
    assert bench.beside.give(bench.store)
    assert given_in(bench.folder).bundle.made_at_s == NOW_S
    bench.now_s += 30
    assert not bench.beside.give(bench.store)
    bench.site = a_site(racks=2, slots=3, odd_slots=False)
    assert bench.beside.give(bench.store)
    assert len(given_in(bench.folder).bundle.devices) == 7


def test_a_cap_that_a_person_gave_stays(bench: Bench) -> None:
    bench.beside.give(bench.store)
    given = given_in(bench.folder)
    give(bench.folder, msgspec.structs.replace(given, caps_w={"grid": 9_000.0}))
    bench.now_s += 30
    assert bench.beside.give(bench.store)
    caps = {node.id: node.cap_w for node in given_in(bench.folder).bundle.nodes}
    assert caps["grid"] == 9_000.0


def test_what_it_lowered_becomes_a_programme_and_its_nodes_are_barred(bench: Bench) -> None:
    assert not bench.beside.adopt(bench.store)
    bench.shows({"M-000-000": LOW, "M-001-000": STOP}, "grid")
    assert bench.beside.adopt(bench.store)
    assert bench.overlays() == {
        "curtail-guard-low": (
            "curtail/guard",
            frozenset({"M-000-000"}),
            Settings(power_mode="low"),
        ),
        "curtail-guard-stop": ("curtail/guard", frozenset({"M-001-000"}), Settings(mining=False)),
        "guard-bars-grid": ("grid", frozenset(), Settings()),
    }
    assert {o.kind for o in bench.store.overlays()} == {OverlayKind.GUARD}
    assert not bench.beside.adopt(bench.store)


def test_a_node_is_free_again_and_machines_stay_until_a_person_ends_it(bench: Bench) -> None:
    bench.shows({"M-000-000": LOW, "M-001-000": STOP}, "grid")
    bench.beside.adopt(bench.store)
    bench.now_s += 60
    bench.shows({"M-001-000": STOP})
    assert bench.beside.adopt(bench.store)
    assert {name: assets for name, (_, assets, _) in bench.overlays().items()} == {
        "curtail-guard-low": frozenset({"M-000-000"}),
        "curtail-guard-stop": frozenset({"M-001-000"}),
    }
    assert {o.since_s for o in bench.store.overlays()} == {NOW_S}


def test_a_machine_that_goes_further_down_is_in_one_overlay(bench: Bench) -> None:
    bench.shows({"M-000-000": LOW})
    bench.beside.adopt(bench.store)
    bench.shows({"M-000-000": STOP})
    bench.beside.adopt(bench.store)
    assert {name: assets for name, (_, assets, _) in bench.overlays().items()} == {
        "curtail-guard-stop": frozenset({"M-000-000"})
    }


def test_what_a_person_ended_is_not_taken_up_again_unless_the_guard_says_it_anew(
    bench: Bench,
) -> None:
    bench.shows({"M-000-000": LOW})
    bench.beside.adopt(bench.store)
    bench.now_s += 60
    bench.store.drop_overlay("curtail-guard-low")
    assert not bench.beside.adopt(bench.store)
    assert bench.overlays() == {}
    bench.shows({"M-000-000": LOW}, at_s=bench.now_s + 5)
    assert bench.beside.adopt(bench.store)
    assert list(bench.overlays()) == ["curtail-guard-low"]
