"""What GitOps tools make of our conditions: kstatus (Flux, kubectl wait), and Argo CD by our script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import yaml
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]

from control_plane.api.conditions import Told, conditions, ready, reconciling, stalled
from control_plane.api.objects import KINDS, FleetRevisionSpec
from control_plane.core.correlate import Incident
from control_plane.core.observation import PoolSetting
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import Rollout, RolloutState
from control_plane.core.world import World
from control_plane.kube import projections
from control_plane.kube.declaration import read_revision, revision_status
from control_plane.kube.rollouts import object_of
from tests.kube.kstatus import Verdict, judge
from tests.kube.snapshots import NOW_S, REVISION, changed, converged, lab, snapshot
from tests.stock import ROOT

GITOPS = ROOT / "manifests" / "gitops"
HEALTH = {
    "Terminating": "Progressing",
    "InProgress": "Progressing",
    "Failed": "Degraded",
    "Current": "Healthy",
}
"""Verdict of kstatus → health of Argo CD."""
LAB = lab()
WORLD = converged(LAB)
MINER = "lab-r1-s1"


def thing(
    told: Sequence[Told] | None, *, generation: int = 2, observed: int = 2, **meta: str
) -> Any:
    """An object with these conditions; `None` for one that nobody looked at yet."""
    made: dict[str, Any] = {"metadata": {"name": "x", "generation": generation, **meta}}
    if told is not None:
        found = conditions(told, (), generation=observed, now_s=NOW_S)
        made["status"] = {
            "observedGeneration": observed,
            "conditions": msgspec.to_builtins(found),
        }
    return made


def argo(obj: Any) -> tuple[str, str]:
    """What Argo CD shows: health and message. It runs Lua 5.1 without the system's libraries."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute("os, io, package, require, debug, dofile, loadfile = nil")
    lua.globals().obj = lua.table_from(obj, recursive=True)
    health = lua.execute((GITOPS / "health.lua").read_text(encoding="utf-8"))
    return health.status, health.message


DONE, FEW = ready("True", "AsDeclared", "12 of 12"), ready("False", "TooFew", "3 of 12")
TO_DO, WRONG = reconciling("ToDo", "9 devices"), stalled("NotAccepted", "line 3")
OBSERVES = Told(type="Enforcing", status="False", reason="ObserveOnly")
ORDER: list[tuple[Any, Verdict, str]] = [
    (thing([DONE]), "Current", "AsDeclared: 12 of 12"),
    (thing([OBSERVES, DONE]), "Current", "AsDeclared: 12 of 12"),
    (thing([ready("True", "AsDeclared")]), "Current", "AsDeclared"),
    (thing([FEW]), "InProgress", "TooFew: 3 of 12"),
    (thing([ready("Unknown", "NotSeen")]), "InProgress", "NotSeen"),
    (thing([TO_DO, DONE]), "InProgress", "ToDo: 9 devices"),
    (thing([WRONG, DONE]), "Failed", "NotAccepted: line 3"),
    # What is under way may heal what stands still; it is judged again when it has ended.
    (thing([WRONG, TO_DO, FEW]), "InProgress", "ToDo: 9 devices"),
    (thing([WRONG, DONE], observed=1), "InProgress", "the controller has not looked at this generation yet"),
    (thing([DONE], deletionTimestamp="2026-01-01T00:00:00Z"), "Terminating", "is being deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "verdict", "message"), ORDER)
def test_every_reader_sees_the_same_order(obj: Any, verdict: Verdict, message: str) -> None:
    assert judge(obj) == verdict
    assert argo(obj) == (HEALTH[verdict], message)


def test_what_nobody_looked_at_yet_is_not_healthy() -> None:
    """kstatus cannot tell it from an object without a controller; Argo CD is told by the script."""
    assert argo(thing(None)) == ("Progressing", "the controller has not looked at it yet")


def rollout(state: RolloutState) -> Rollout:
    return Rollout(id="1-a", to=REVISION, origin=None, waves=(1, 12), wave=1, state=state)


def site(world: World, *, state: RolloutState | None = None, refusal: str | None = None) -> Any:
    taken = snapshot(LAB, world, rollout(state) if state else None)
    return thing(projections.site_told(taken, refusal))


def miner(world: World) -> Any:
    found = {name: told for name, _, _, told in projections.miners(snapshot(LAB, world))}
    return thing(found[MINER])


def rack(world: World) -> Any:
    found = {name: told for name, _, _, told in projections.racks(snapshot(LAB, world))}
    return thing(found["lab-r1"])


def with_(**more: Any) -> World:
    return msgspec.structs.replace(WORLD, **more)


FOREIGN = changed(WORLD, MINER, pools=(PoolSetting(url="stratum+tcp://evil:1", worker="x"),))
UNSEEN = with_(sightings={})
INCIDENT = with_(
    incidents=(
        Incident(id="i1", node="lab-hall-p1", cause="lost", since_s=0.0, assets=6, detail="6 lost"),
    )
)
HELD = with_(
    overlays=(
        Overlay(
            id="h1", kind=OverlayKind.SAFETY_HOLD, node="lab-r1", owner="ann", reason="work",
            since_s=0.0, assets=frozenset({MINER}),
        ),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "verdict"),
    [
        pytest.param(site(WORLD), "Current", id="a site as declared"),
        pytest.param(site(FOREIGN), "InProgress", id="a site with a write to come"),
        pytest.param(site(UNSEEN), "InProgress", id="a site that nobody looked at"),
        pytest.param(site(WORLD, refusal="line 3"), "Failed", id="a revision that is refused"),
        pytest.param(site(INCIDENT), "Failed", id="an incident"),
        pytest.param(site(WORLD, state=RolloutState.SOAKING), "InProgress", id="a wave that soaks"),
        pytest.param(site(WORLD, state=RolloutState.HALTED), "Failed", id="a gate that failed"),
        pytest.param(site(WORLD, state=RolloutState.DONE), "Current", id="a rollout that is done"),
        pytest.param(site(HELD), "Current", id="a site with one hold"),
        pytest.param(miner(WORLD), "Current", id="a miner as declared"),
        pytest.param(miner(FOREIGN), "InProgress", id="a miner with a write to come"),
        pytest.param(miner(UNSEEN), "InProgress", id="a miner that nobody looked at"),
        pytest.param(rack(WORLD), "Current", id="a rack as declared"),
        pytest.param(rack(FOREIGN), "InProgress", id="a rack with a write to come"),
    ],
)
def test_projections_are_read_as_they_are_meant(obj: Any, verdict: Verdict) -> None:
    assert judge(obj) == verdict
    assert argo(obj)[0] == HEALTH[verdict]
    assert "Ready" in {each["type"] for each in obj["status"]["conditions"]}


@pytest.mark.parametrize("state", list(RolloutState))
def test_a_rollout_is_current_only_when_it_is_over(state: RolloutState) -> None:
    _, _, _, told = object_of("lab", rollout(state))
    assert (judge(thing(told)) == "Current") == (state is RolloutState.DONE)
    assert (judge(thing(told)) == "Failed") == (state is RolloutState.HALTED)


def test_a_revision_that_does_not_load_is_degraded() -> None:
    spec = FleetRevisionSpec(site="lab", format="msgpack+zlib", data=b"no bundle")
    refused = read_revision("a" * 64, spec)
    status = revision_status(refused, (), generation=2, now_s=NOW_S)
    obj = thing(None) | {"status": msgspec.to_builtins(status)}
    assert judge(obj) == "Failed"
    assert argo(obj)[0] == "Degraded"


def test_each_key_of_argo_names_a_kind_of_ours() -> None:
    component = yaml.safe_load((GITOPS / "kustomization.yaml").read_text(encoding="utf-8"))
    [generator] = component["configMapGenerator"]
    kinds = {kind.name for kind in KINDS}
    for entry in generator["files"]:
        key, _, name = entry.partition("=")
        assert key.rpartition("gridplane.dev_")[2] in kinds
        assert (GITOPS / name).exists()
