"""Which GPU nodes of a site one failure takes down together."""

from __future__ import annotations

import msgspec

from control_plane.core.domain_budget import Cause, DomainKind, refusal, taken
from control_plane.core.fleet import SlotState
from control_plane.core.gpu_domains import domains_of, gpu_devices, paths_of
from control_plane.inventory.load import load
from tests.stock import ROOT

FLEET = load(ROOT / "inventory", sites={"ga-macon", "lab"}).fleet
assert FLEET is not None
MACON, LAB = FLEET.sites["ga-macon"], FLEET.sites["lab"]


def test_every_node_is_in_its_rack_its_cluster_and_all_feeds_above_it() -> None:
    books = domains_of(MACON)
    for device in gpu_devices(MACON):
        feeds = {f"feed/{node.id}" for node in MACON.path(device.feed)}
        assert set(books.of[device.asset]) == {f"rack/{device.rack}", "cluster/ga-macon", *feeds}
    cluster = books.domains["cluster/ga-macon"]
    assert len(cluster.members) == len(list(gpu_devices(MACON)))
    assert cluster.kind is DomainKind.CLUSTER


def test_a_miner_or_a_slot_that_is_not_in_service_is_in_none() -> None:
    out = msgspec.structs.replace(
        LAB,
        devices=tuple(
            msgspec.structs.replace(d, state=SlotState.IN_REPAIR) if d.asset == "lab-g1-n1" else d
            for d in LAB.devices
        ),
    )
    assert set(domains_of(LAB).of) == {"lab-g1-n1", "lab-g1-n2"}
    assert set(domains_of(out).of) == set(paths_of(out)) == {"lab-g1-n2"}


def test_of_two_nodes_of_a_rack_one_may_be_taken() -> None:
    books = domains_of(LAB)
    assert refusal(books=books, node="lab-g1-n1", cause=Cause.REMEDIATION) is None
    books = taken(books=books, node="lab-g1-n1", cause=Cause.REMEDIATION)
    found = refusal(books=books, node="lab-g1-n2", cause=Cause.REMEDIATION)
    assert found is not None
    assert (found.down, found.allowed) == (1, 1)


def test_paths_lead_from_the_rack_up_to_the_site() -> None:
    for node, path in paths_of(MACON).items():
        device = next(d for d in MACON.devices if d.asset == node)
        assert path[0] == device.rack
        assert path[-1] == "ga-macon"
        assert path[1:-1] == tuple(one.id for one in MACON.path(device.feed))
