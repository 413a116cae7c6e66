"""What we project is what the real API server takes, and what kubectl shows and waits for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.api.conditions import Told, conditions, moment, ready
from control_plane.api.objects import (
    GROUP,
    VERSION,
    FleetRevisionSpec,
    OrderSpec,
    PinPart,
    SiteSpec,
    SiteStatus,
    Status,
)
from control_plane.core.cluster import Object
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import Rollout, RolloutState
from control_plane.inventory.bundle import render
from control_plane.inventory.load import load
from control_plane.kube import projections, rollouts
from control_plane.kube.declaration import read_revision, revision_status
from control_plane.kube.saying import (
    is_same_word,
    order_body,
    order_told,
    overlay_body,
    overlay_in,
    overlay_told,
)
from tests.kube.snapshots import REVISION, converged, lab, seeing, snapshot, unreachable
from tests.lab.cluster import Cluster
from tests.stock import ROOT

pytestmark = pytest.mark.lab


def write(
    cluster: Cluster, kind: str, name: str, spec: msgspec.Struct, status: Status, told: list[Told]
) -> dict[str, Any]:
    """An object and its status, as the controller would write them."""
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": msgspec.to_builtins(spec),
    }
    generation = cluster.apply(body)["metadata"]["generation"]
    full = msgspec.structs.replace(
        status,
        conditions=conditions(told, (), generation=generation, now_s=1_800_000_000),
        observed_generation=generation,
    )
    body["status"] = msgspec.to_builtins(full)
    return dict(cluster.apply(body, "--subresource=status"))


def test_every_projection_of_a_site_is_taken(cluster: Cluster) -> None:
    site, world = lab(), seeing(converged(lab()), lab_r1_s1=unreachable("lab-r1-s1"))
    running = Rollout(
        id="000001-aaaa", to=REVISION, origin=None, waves=(1, 4, 12), state=RolloutState.RUNNING,
        since_s=1_800_000_000.0, behind={"lab-r1-s1": None, "lab-r1-s2": REVISION},
    )  # fmt: skip
    made = snapshot(site, world, running)
    for kind, found in (("Rack", projections.racks(made)), ("Miner", projections.miners(made))):
        for name, spec, status, told in found:
            write(cluster, kind, name, spec, status, told)
    write(cluster, "Rollout", *rollouts.object_of("lab", running))
    write(
        cluster, "Site", "lab", SiteSpec(revision=REVISION),
        projections.site_status(made, SiteStatus()), projections.site_told(made, None),
    )  # fmt: skip

    cluster.wait("condition=Ready", "miner/lab-r2-s1")
    shown = cluster.run("get", "miners,racks,sites,rollouts", "--no-headers")
    rows = {row.split()[0]: row.split()[1:] for row in shown.splitlines() if row}
    assert rows["miner.gridplane.dev/lab-r1-s1"][:3] == ["False", "in_service", "lab-r1"]
    assert rows["rack.gridplane.dev/lab-r1"][:3] == ["False", "5/6", "lab-hall-p1"]
    assert rows["rack.gridplane.dev/lab-r2"][:2] == ["True", "6/6"]
    assert rows["site.gridplane.dev/lab"][:3] == ["True", "observe", "11/12"]
    assert rows["rollout.gridplane.dev/000001-aaaa"][:3] == ["lab", "running", "0/3"]


def test_a_rendered_revision_is_read_back_and_judged(cluster: Cluster) -> None:
    loaded = load(ROOT / "inventory", sites={"lab"})
    revision, pointer = render(
        "lab", loaded.files["lab"], namespace=cluster.namespace, commit="abc"
    )
    for body in (revision, pointer):
        cluster.apply(body)
    name = revision["metadata"]["name"]
    kept = cluster.json("get", "fleetrevision", name)
    spec = msgspec.convert(kept["spec"], FleetRevisionSpec)
    declared = read_revision(name, spec)
    assert declared.digest == loaded.digests["lab"]
    status = revision_status(
        declared, (), generation=kept["metadata"]["generation"], now_s=1_800_000_000
    )
    body = {**revision, "status": msgspec.to_builtins(status)}
    cluster.apply(body, "--subresource=status")
    cluster.wait("condition=Accepted", f"fleetrevision/{name}")


def test_what_people_say_is_taken_shown_and_waited_for(cluster: Cluster) -> None:
    hold = Overlay(
        id="lab-r1.hold", kind=OverlayKind.SAFETY_HOLD, node="lab-r1", owner="ann", reason="PDU swap",
        since_s=1_800_000_000.5, expires_s=1_800_003_600.0, assets=frozenset({"lab-r1-s1"}),
    )  # fmt: skip
    order = OrderSpec(
        site="lab", kind="trust", target="lab-r1-s1", by="ann", at=moment(1_800_000_000.0),
        pin=PinPart(mac="02:00:00:00:00:01", source="ann"),
    )  # fmt: skip
    bodies = {
        "overlay": overlay_body(hold, site="lab", namespace=cluster.namespace),
        "order": order_body(order, name="trust-1", namespace=cluster.namespace),
    }
    tellers = {"overlay": overlay_told, "order": order_told}
    for kind, body in bodies.items():
        name = body["metadata"]["name"]
        made = msgspec.convert(cluster.apply(dict(body)), dict[str, Any])
        seen = msgspec.json.decode(msgspec.json.encode(made), type=Object)
        told = tellers[kind](seen, [ready("True", "InForce", "covers 1 devices")], 1_800_000_000.0)
        cluster.apply({**body, "status": told}, "--subresource=status")
        cluster.wait("condition=Ready", f"{kind}/{name}")
    kept = msgspec.json.decode(
        msgspec.json.encode(cluster.json("get", "overlay", hold.id)), type=Object
    )
    assert is_same_word(hold, overlay_in(kept))
    rows = [
        row.split() for row in cluster.run("get", "overlays,orders", "--no-headers").splitlines()
    ]
    assert [row[:5] for row in rows if row] == [
        ["overlay.gridplane.dev/lab-r1.hold", "safety", "lab-r1", "ann", "True"],
        ["order.gridplane.dev/trust-1", "trust", "lab-r1-s1", "ann", "True"],
    ]
