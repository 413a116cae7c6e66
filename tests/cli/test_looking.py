"""What a plan is made from: everything that its own look saw."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from control_plane.cli import looking
from control_plane.cli.workplace import Declared
from control_plane.core.world import World
from control_plane.engine.poller import target_of
from control_plane.engine.secrets import SystemSecrets
from control_plane.engine.slots import Slot
from tests.core.builders import CAPABILITIES, NOW_S, device, seen
from tests.core.builders import site as a_site


class Place:
    """A workplace with one device seen long ago and one whose sighting aged during the look."""

    def __init__(self, engine: object | None) -> None:
        self.engine = engine

    def engine_status(self) -> object | None:
        return self.engine

    def world(self, *_: object) -> World:
        return World(
            now_s=NOW_S,
            sightings={name: seen(asset=name) for name in ("d1", "d2", "d3")},
            memories={},
            capabilities={"fam": CAPABILITIES},
            stale=frozenset({"d1", "d2"}),
        )


@pytest.mark.parametrize(("engine", "asked"), [(None, None), ("runs", ["d1", "d2"])])
def test_what_this_look_saw_is_not_stale_however_long_it_took(
    engine: object | None, asked: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[object] = []

    def look_at(_place: object, _site: object, assets: object = None) -> dict[str, object]:
        wanted.append(assets)
        return {"d1": seen(asset="d1")}

    monkeypatch.setattr(looking, "look_at", look_at)
    place: Any = Place(engine)
    site = a_site(tuple(device(name) for name in ("d1", "d2", "d3")))
    declared = Declared(site=site, digest="rev", files={})
    world = looking.seen_world(place, declared, look=True)
    assert wanted == [asked]
    assert world.stale == {"d2"}


def test_a_look_hands_on_what_an_earlier_process_learned_of_a_write_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = seen(asset="d1", write_enabled=False)
    store = SimpleNamespace(
        memories=dict, sightings=lambda: {"d1": before}, put_sightings=lambda _: None
    )
    edges = SimpleNamespace(drivers={"fam": object()}, capabilities={"fam": CAPABILITIES})
    place: Any = SimpleNamespace(
        site="t", store=store, edges=lambda: edges, engine_status=lambda: None
    )
    asked: dict[str, bool | None] = {}

    async def sweep(slots: Sequence[Slot], **_: object) -> dict[str, object]:
        for slot in slots:
            target = target_of(slot, "10.0.0.1", SystemSecrets())
            asked[slot.asset] = target.write_enabled
        return {}

    monkeypatch.setattr(looking, "sweep", sweep)
    looking.look_at(place, a_site((device("d1"), device("d2"))))
    assert asked == {"d1": False, "d2": None}
