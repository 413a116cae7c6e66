"""What people are told: changes only, and those of a rack's machines together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from control_plane.api.conditions import Told, conditions, moment, ready, stalled
from control_plane.api.objects import RolloutSpec, SiteStatus, Status
from control_plane.core.cluster import Kind, Metadata, Object
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache
from control_plane.kube.herald import Herald
from control_plane.kube.kinds import MINER, RACK, ROLLOUT, SITE
from control_plane.simulator.clock import ManualSimClock
from tests.kube.running import no_bug
from tests.kube.snapshots import NOW_S

NS = "power"
OK = [ready("True", "AsDeclared")]
LOST = [ready("False", "HashboardLost", "2 of 3 boards")]


class Posts:
    """Stands for the writer: (object, reason, note, warns)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, str, bool]] = []

    def post(
        self, kind: Kind, about: Object, reason: str, note: str, *, warns: bool = False
    ) -> None:
        self.all.append((f"{kind.kind}/{about.metadata.name}", reason, note, warns))


def thing(kind: Kind, name: str, spec: Any = None, told: Sequence[Told] = ()) -> Object:
    status = Status(conditions=conditions(told, (), generation=1, now_s=NOW_S))
    return Object(
        api_version=kind.api_version,
        kind=kind.kind,
        metadata=Metadata(name=name, namespace=NS, uid=f"uid-{name}", resource_version="5"),
        spec=msgspec.Raw(msgspec.json.encode(spec)),
        status=msgspec.Raw(msgspec.json.encode(status)) if told else msgspec.Raw(b"null"),
    )


def herald(store: Store | None = None, said: list[Any] | None = None) -> tuple[Herald, Posts]:
    racks, sites = Cache(RACK, bug=no_bug), Cache(SITE, bug=no_bug)
    racks.replace([thing(RACK, "r1"), thing(RACK, "r2")], 5)
    sites.replace([thing(SITE, "lab")], 5)
    told = Posts()
    made = Herald(
        racks,
        sites,
        told,  # type: ignore[arg-type]
        clock=ManualSimClock(),  # type: ignore[arg-type]
        say=lambda *words, **fields: said.append((*words, fields)) if said is not None else None,
        store=lambda: store or Store(None),
    )
    return made, told


def miner(name: str, rack: str = "r1", told: Sequence[Told] = ()) -> Object:
    return thing(MINER, name, {"rack": rack}, told)


def test_a_racks_machines_are_one_event_for_each_reason() -> None:
    tell, events = herald()
    for n in range(12):
        tell.saw(MINER, miner(f"m-{n:02}"), Status(), OK)
    for n in range(3):
        tell.saw(MINER, miner(f"m-2{n}", "r2"), Status(), LOST)
    assert events.all == []
    tell.flush()
    assert events.all == [
        (
            "Rack/r1",
            "MinersReady",
            "12 miners became Ready: m-00, m-01, m-02, m-03, m-04, …",
            False,
        ),
        (
            "Rack/r2",
            "HashboardLost",
            "3 miners: HashboardLost: m-20, m-21, m-22; m-20: 2 of 3 boards",
            True,
        ),
    ]
    tell.flush()
    assert len(events.all) == 2


def test_what_does_not_change_is_told_once() -> None:
    tell, events = herald()
    for _ in range(5):
        tell.saw(MINER, miner("m-1"), Status(), LOST)
        tell.flush()
    assert len(events.all) == 1


def test_a_new_leader_does_not_repeat_what_stands_in_the_status() -> None:
    tell, events = herald()
    tell.leads(f"{NS}/lab", 7, "pod-2")
    tell.saw(MINER, miner("m-1", told=LOST), Status(), LOST)
    tell.saw(MINER, miner("m-2", told=OK), Status(), LOST)
    tell.flush()
    assert events.all == [
        ("Site/lab", "LeaderChanged", "pod-2 leads now, under fence 7", False),
        ("Rack/r1", "HashboardLost", "1 miner: HashboardLost: m-2; m-2: 2 of 3 boards", True),
    ]


def test_work_under_way_is_no_news() -> None:
    tell, events = herald()
    at_work = [ready("False", "Reconciling")]
    tell.saw(MINER, miner("m-1", told=OK), Status(), at_work)
    tell.saw(MINER, miner("m-2", told=OK), Status(), [ready("Unknown", "NotSeen", "not yet")])
    tell.flush()
    assert events.all == []


def test_a_site_tells_of_its_revision_its_mode_and_what_stands_in_the_way() -> None:
    tell, events = herald()
    site = thing(SITE, "lab")
    observes = Told(type="Enforcing", status="False", reason="ObserveOnly", message="observes")
    enforces = Told(type="Enforcing", status="True", reason="Enforces", message="enforces")
    few, enough = ready("False", "TooFew", "3 of 12"), ready("True", "AsDeclared", "12 of 12")
    first, second = SiteStatus(accepted_revision="a" * 64), SiteStatus(accepted_revision="b" * 64)

    def see(status: SiteStatus, *told: Told) -> list[str]:
        events.all.clear()
        tell.saw(SITE, site, status, told)
        return [f"{reason}{'!' * warns} {note}" for _, reason, note, warns in events.all]

    assert see(first, observes, few) == [
        "RevisionAccepted revision aaaaaaaaaaaa is in force",
        "ModeChanged observes",
        "NotReady! 3 of 12",
    ]
    assert see(first, observes, few) == []
    assert see(first, observes, ready("False", "TooFew", "4 of 12")) == []
    assert see(first, observes, stalled("NotAccepted", "line 3"), few) == [
        "RevisionRefused! line 3"
    ]
    assert see(first, observes, stalled("NotAccepted", "line 9"), few) == [
        "RevisionRefused! line 9"
    ]
    assert see(second, enforces, enough) == [
        "RevisionAccepted revision bbbbbbbbbbbb is in force",
        "ModeChanged enforces",
        "Ready 12 of 12",
    ]
    assert see(second, enforces, stalled("Incident", "i1 on p1: 3 lost"), enough) == [
        "Incident! i1 on p1: 3 lost"
    ]
    # A number that grows is no other incident.
    assert see(second, enforces, stalled("Incident", "i1 on p1: 4 lost"), enough) == []
    assert see(second, enforces, stalled("Incident", "i2 on p2: 4 lost"), enough) == [
        "Incident! i2 on p2: 4 lost"
    ]


def test_a_take_over_is_not_told_as_if_the_site_had_changed() -> None:
    observes = Told(type="Enforcing", status="False", reason="ObserveOnly", message="observes")
    enforces = Told(type="Enforcing", status="True", reason="Enforcing", message="enforces")
    accepted = SiteStatus(accepted_revision="a" * 64)
    tell, events = herald()
    stood = thing(SITE, "lab", told=[enforces, ready("True", "AsDeclared")])
    status = msgspec.json.decode(stood.status) | {"acceptedRevision": "a" * 64}
    stood = msgspec.structs.replace(stood, status=msgspec.Raw(msgspec.json.encode(status)))
    for told in (
        (observes, ready("Unknown", "Reading")),
        (enforces, ready("Unknown", "NotSeen", "none of 12")),
        (enforces, ready("True", "AsDeclared", "12 of 12")),
    ):
        tell.saw(SITE, stood, accepted, told)
    assert events.all == []
    tell.saw(SITE, stood, accepted, (observes, ready("Unknown", "NotSeen", "none of 12")))
    assert [reason for _, reason, _, _ in events.all] == ["ModeChanged"]


def rollout(wave: int, state: str, *, detail: str = "") -> Object:
    gates = (
        [{"wave": wave + 1, "at": moment(NOW_S), "passed": False, "detail": detail}]
        if detail
        else []
    )
    spec = {
        "site": "lab", "to": "a" * 64, "waves": [1, 4, 12], "wave": wave, "state": state,
        "gates": gates,
    }  # fmt: skip
    msgspec.convert(msgspec.to_builtins(spec), RolloutSpec)
    return thing(ROLLOUT, "000001-a", spec)


def test_a_rollout_tells_of_waves_that_passed_and_of_its_end() -> None:
    tell, events = herald()

    def see(*about: Object) -> list[tuple[str, str, bool]]:
        events.all.clear()
        for each in about:
            tell.saw(ROLLOUT, each, Status(), [ready("False", "Rollout")])
        return [(reason, note, warns) for _, reason, note, warns in events.all]

    assert see(rollout(0, "running"), rollout(0, "soaking")) == []
    assert see(rollout(1, "running")) == [("WavePassed", "wave 1 of 3 passed", False)]
    assert see(rollout(1, "halted", detail="66.7% failed")) == [
        ("Halted", "halted at wave 2: 66.7% failed", True)
    ]
    assert see(rollout(1, "running"), rollout(2, "running")) == [
        ("WavePassed", "wave 2 of 3 passed", False)
    ]


def test_the_engines_own_events_go_to_the_log_once(tmp_path: Path) -> None:
    said: list[Any] = []
    store = Store(tmp_path / "state.sqlite")
    tell, _ = herald(store, said)
    store.put_events([Event(at_s=1, kind="drift", text="pool", asset="m-1")])
    tell.follow()
    store.put_events([Event(at_s=2, kind="page", text="look", node="r1")])
    tell.follow()
    tell.follow()
    assert said == [
        ("pool", {"level": "info", "kind": "drift", "asset": "m-1"}),
        ("look", {"level": "warning", "kind": "page", "node": "r1"}),
    ]


def test_a_condition_of_another_kind_is_not_mistaken_for_readiness() -> None:
    tell, events = herald()
    held = Told(type="Held", status="True", reason="Hold")
    tell.saw(MINER, miner("m-1", told=OK), Status(), [held, *OK])
    tell.flush()
    assert events.all == []
