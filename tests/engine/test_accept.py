"""What is accepted, what is refused, and that a refusal leaves everything as it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control_plane.core.fleet import Device, DeviceKind, GpuIntent, Site, SlotState
from control_plane.core.gpu_rollout import SoftwareRollout
from control_plane.core.gpu_software import Want
from control_plane.core.observation import Field
from control_plane.core.overlay import Overlay, OverlayKind, covering, nodes_above
from control_plane.core.remedy_kept import SiteKept
from control_plane.engine.accept import NotAccepted, Proposal, accept
from control_plane.engine.audit import AuditFile
from control_plane.engine.records import Approval, RevisionRecord, ShownPlan
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from tests.core.builders import NOW_S, OWNER, TYPE, device, intent, site

RACK = tuple(device(f"d{n}", slot=n) for n in range(1, 5))


class Desk:
    """A Store, and somebody who proposes revisions to it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "state.sqlite")
        self.audit = AuditFile(folder / "audit.jsonl")
        self.revisions = Revisions(self.store, "t")

    def accept(self, digest: str, declared: Site, **changes: object) -> RevisionRecord:
        self.revisions.learn(digest, declared)
        plan = ShownPlan(digest=f"plan-{digest}", revision=digest, at_s=NOW_S, expected={})
        proposal = Proposal(site=declared, digest=digest, files={}, plan=plan, by="ann")
        return accept(
            self.store,
            self.audit,
            self.revisions,
            msgspec.structs.replace(proposal, **changes),
            NOW_S,
        )

    def hold(self, node: str, *covered: Device, kind: str = "safety") -> Overlay:
        overlay = Overlay(
            id="h0001",
            kind=OverlayKind(kind),
            node=node,
            owner="bob",
            reason="hands in the rack",
            since_s=NOW_S,
            assets=frozenset(d.asset for d in covered),
        )
        self.store.put_overlay(overlay)
        return overlay


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.accept("one", site(RACK))
    return desk


# --- people under a hold ---------------------------------------------------------------------------


def moved(*assets: str, to: str) -> Site:
    return site(
        tuple(
            msgspec.structs.replace(d, rack=to) if not assets or d.asset in assets else d
            for d in RACK
        )
    )


@pytest.mark.parametrize(
    ("node", "after"),
    [
        ("r1", moved(to="r2")),
        ("r1", moved("d2", to="r2")),
        ("r1", site(RACK[:3])),
        ("r1", site((*RACK[:3], device("spare", slot=4)))),
        ("d2", site((RACK[0], *RACK[2:]))),
        ("pdu", site(tuple(msgspec.structs.replace(d, feed="pdu2") for d in RACK))),
    ],
    ids=["renamed", "moved", "gone", "exchanged", "device gone", "other pdu"],
)
@pytest.mark.parametrize("kind", ["safety", "maintenance", "freeze"])
def test_a_revision_does_not_take_devices_out_from_under_a_hold(
    desk: Desk, node: str, after: Site, kind: str
) -> None:
    desk.hold(node, kind=kind)
    with pytest.raises(NotAccepted, match=rf"h0001.*bob.*{node}"):
        desk.accept("two", after, acknowledged_removals=1)
    accepted = desk.store.accepted()
    assert accepted is not None
    assert accepted.digest == "one"
    desk.store.drop_overlay("h0001")
    desk.accept("two", after, acknowledged_removals=1)


def test_a_held_rack_that_is_renamed_is_named_although_nothing_stands_in_it(desk: Desk) -> None:
    declared = site(RACK)
    empty = msgspec.structs.replace(declared.racks["r1"], id="r9")
    desk.accept("more", msgspec.structs.replace(declared, racks={**declared.racks, "r9": empty}))
    desk.hold("r9")
    with pytest.raises(NotAccepted, match="r9"):
        desk.accept("two", declared)


def test_what_stays_under_its_hold_may_change(desk: Desk) -> None:
    desk.hold("r1")
    desk.hold("t")
    desk.accept("two", site((*RACK, device("d5", slot=5), device("x", rack="r3"))))


def test_an_expired_freeze_stops_no_revision(desk: Desk) -> None:
    freeze = desk.hold("r1", kind="freeze")
    desk.store.put_overlay(msgspec.structs.replace(freeze, expires_s=NOW_S - 1))
    desk.accept("two", moved(to="r2"))


def test_a_hold_covers_whom_it_covered_when_it_was_set_under_any_name(desk: Desk) -> None:
    hold = desk.hold("old-name", *RACK[:2])
    declared = moved(to="r2")
    covered = [d.asset for d in declared.devices if covering([hold], nodes_above(declared, d))]
    assert covered == ["d1", "d2"]
    with pytest.raises(NotAccepted, match="h0001"):
        desk.accept("two", site(RACK[2:]), acknowledged_removals=2)


# --- owners' approvals -----------------------------------------------------------------------------


def approved(by: str, *, owner: str = "own", field: Field = Field.POOLS) -> ShownPlan:
    word = Approval(owner=owner, field=field, by=by)
    return ShownPlan(digest="p", revision="two", at_s=NOW_S, expected={}, approvals=(word,))


def asking_site() -> Site:
    owner = msgspec.structs.replace(OWNER, approvals={Field.POOLS: ("dora", "eli")})
    return site(RACK, owners={"own": owner})


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (approved("ann"), r"ann may not approve pools for own: only dora or eli may"),
        (approved("dora", field=Field.FIRMWARE), r"own leaves firmware to the site's operator"),
        (approved("dora", owner="owm"), r"no owner owm \(it has own\)"),
    ],
    ids=["not named", "nothing to approve", "no owner"],
)
def test_only_whom_the_owner_named_approves(desk: Desk, plan: ShownPlan, told: str) -> None:
    with pytest.raises(NotAccepted, match=told):
        desk.accept("two", asking_site(), plan=plan)


def test_an_approval_comes_into_force_with_its_revision_and_stays_with_it(desk: Desk) -> None:
    desk.accept("two", asking_site(), plan=approved("dora"))
    record = desk.accept("two", asking_site())
    assert [a.by for a in record.approvals] == ["dora"]
    assert desk.accept("three", asking_site()).approvals == ()


@pytest.mark.parametrize("state", [SlotState.OUT_OF_SERVICE, SlotState.VACANT])
def test_a_site_that_is_taken_out_of_service_shrinks_as_one_that_is_deleted(
    desk: Desk, state: SlotState
) -> None:
    retired = tuple(msgspec.structs.replace(d, state=state) for d in RACK)
    for acknowledged in (None, 3):
        with pytest.raises(NotAccepted, match="--acknowledge-removals 4"):
            desk.accept("two", site(retired), acknowledged_removals=acknowledged)
    desk.accept("two", site(retired), acknowledged_removals=4)
    assert desk.store.released() == [], "they are declared, and counted by their state"


def test_a_rack_that_loses_half_of_its_machines_is_asked_about_however_large_the_site(
    desk: Desk,
) -> None:
    """A truncated file of one rack is below any share of a site."""
    rack = tuple(device(f"x{slot}", rack="r3", slot=slot) for slot in range(1, 10))
    rest = tuple(device(f"m{slot}", slot=slot) for slot in range(5, 305))
    desk.accept("large", site((*RACK, *rest, *rack)))
    with pytest.raises(NotAccepted, match=r"5 of the 9 of r3 .*--acknowledge-removals 5"):
        desk.accept("cut", site((*RACK, *rest, *rack[:4])))
    desk.accept("some", site((*RACK, *rest, *rack[:5])))
    desk.accept("meant", site((*RACK, *rest)), acknowledged_removals=5)


# --- two at once -----------------------------------------------------------------------------------


def test_whoever_accepts_second_comes_after_the_first_and_loses_him_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Desk(tmp_path)
    other.revisions.learn("one", site(RACK))
    load = desk.revisions.site

    def somebody_is_faster(digest: str) -> Site:
        monkeypatch.setattr(desk.revisions, "site", load)
        other.accept("theirs", site((*RACK, device("d5", slot=5))))
        desk.revisions.learn("theirs", site((*RACK, device("d5", slot=5))))
        return load(digest)

    monkeypatch.setattr(desk.revisions, "site", somebody_is_faster)
    ours = desk.accept("ours", site(RACK), acknowledged_removals=1)
    kept = [(r.digest, r.seq) for r in desk.store.revisions()]
    assert kept == [("one", 1), ("theirs", 2), ("ours", 3)]
    rollout = desk.store.rollout_to(ours.digest)
    assert rollout is not None
    assert rollout.origin == "theirs"
    assert [r.asset for r in desk.store.released()] == ["d5"]


def gpus(driver: str) -> Site:
    kind = msgspec.structs.replace(TYPE, id="gpu", kind=DeviceKind.GPU_NODE)
    of = intent(gpu=GpuIntent(driver=driver, waves=True))
    return site((device("g1", type=kind, intent=of),))


def test_a_driver_of_an_older_branch_is_the_way_back_of_open_waves_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    new = desk.accept("new", gpus("610.57.04"))
    with pytest.raises(NotAccepted, match=r"610\.57\.04 -> 595\.91\.07 goes back to branch 595"):
        desk.accept("old", gpus("595.91.07"))
    assert desk.store.accepted() == new
    profile = gpus("595.91.07").devices[0].intent.profile
    waves = SoftwareRollout(id="x", profile=profile, want=Want(driver="610.57.04"), waves=(1,))
    desk.store.put_remedy_site(SiteKept(software={profile: waves}))
    desk.accept("old", gpus("595.91.07"))
