"""How a node stands towards its declared software: one line for each thing that can be seen of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import pytest

from control_plane.api.objects import AlertPart, GpuNodeStatus
from control_plane.core import limits
from control_plane.core.driver_upgrade import LABEL
from control_plane.core.fleet import Device
from control_plane.core.gpu_rollout import Stand, Standing
from control_plane.core.gpu_software import BY, ROLLOUT, SINCE, STEP, WHY
from control_plane.core.handed_over import QUARANTINED
from control_plane.core.mig import CONFIG, GAVE_UP, STATE
from control_plane.core.moments import moment_text
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_kept import NodeKept
from control_plane.kube.gpu_software_view import has_mig, standing_of, want_of
from control_plane.kube.gpu_view import NodeFacts
from tests.kube.remedies import in_repair
from tests.kube.test_gpu_view import AT, DEVICE, LOST, NOW_S, agent, facts

OLD, NEW = "595.91.07", "610.57.04"
SEVEN = "all-1g.18gb"
OURS = "gpu-p-1"
REQUIRED = {LABEL: "upgrade-required"}
PARTED = {CONFIG: SEVEN, STATE: "success"}
HOLD = Overlay(
    id="h1", kind=OverlayKind.SAFETY_HOLD, node=DEVICE.asset, owner="ann", reason="hands in it",
    since_s=NOW_S,
)  # fmt: skip


def wanting(driver: str | None = NEW, mig: str | None = None) -> Device:
    gpu = DEVICE.intent.gpu
    assert gpu is not None
    settings = msgspec.structs.replace(gpu.settings, mig=mig is not None)
    gpu = msgspec.structs.replace(gpu, driver=driver, mig=mig, waves=True, settings=settings)
    return msgspec.structs.replace(DEVICE, intent=msgspec.structs.replace(DEVICE.intent, gpu=gpu))


def marked(
    of: NodeFacts,
    step: str,
    *,
    rollout: str = OURS,
    ago_s: float = 60.0,
    said: Mapping[str, str] = MappingProxyType({}),
) -> NodeFacts:
    words = {STEP: step, ROLLOUT: rollout, SINCE: moment_text(NOW_S - ago_s), **said}
    node = msgspec.structs.replace(of.node, annotations={**of.node.annotations, **words})
    return msgspec.structs.replace(of, node=node)


def runs(driver: str, *alerts: AlertPart, ago_s: float = 5.0) -> GpuNodeStatus:
    return msgspec.structs.replace(agent(*alerts, ago_s=ago_s), driver=driver)


def stands(
    of: NodeFacts | None,
    told: GpuNodeStatus | None,
    device: Device | None = None,
    *,
    overlays: tuple[Overlay, ...] = (),
    kept: NodeKept | None = None,
    others: str | None = None,
) -> Standing:
    return standing_of(
        device or wanting(), of, told,
        rollout=OURS, overlays=overlays, kept=kept, others=others, now_s=NOW_S,
    )  # fmt: skip


AT_REST = marked(facts(labels=REQUIRED), "held", rollout="")
GONE = marked(facts(labels=REQUIRED), "going")


@pytest.mark.parametrize(
    ("of", "told", "stand"),
    [
        (None, None, Stand.UNKNOWN),
        (AT_REST, None, Stand.UNKNOWN),
        (AT_REST, runs(OLD, ago_s=limits.GPU_SILENT_S), Stand.UNKNOWN),
        (AT_REST, runs(OLD), Stand.BEHIND),
        (AT_REST, runs(NEW), Stand.DONE),
        (AT_REST, runs(NEW, LOST), Stand.ILL),
        (AT_REST, runs(OLD, LOST), Stand.BARRED),
        (marked(facts(), "held"), runs(OLD), Stand.UNASKED),
        (marked(facts(labels=REQUIRED, ready="False"), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels=REQUIRED, gpus="7"), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels=REQUIRED, spec={"unschedulable": True}), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels=REQUIRED, hold="gridplane-remedies"), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels={LABEL: "cordon-required"}), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels={LABEL: "of a later release"}), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels={LABEL: "upgrade-failed"}), "held"), runs(OLD), Stand.BARRED),
        (marked(facts(labels=REQUIRED), "failed", said={WHY: "it gave up"}), runs(OLD), Stand.FAILED),
        (marked(facts(), "failed"), runs(NEW), Stand.DONE),
        (marked(facts(labels=REQUIRED), "failed", rollout="before"), runs(OLD), Stand.BEHIND),
    ],
)  # fmt: skip
def test_one_that_is_held_back(
    of: NodeFacts | None, told: GpuNodeStatus | None, stand: Stand
) -> None:
    found = stands(of, told)
    assert found.stand is stand
    assert found.detail or stand in {Stand.BEHIND, Stand.DONE}


def test_the_words_of_who_is_in_the_way() -> None:
    assert stands(AT_REST, runs(OLD), overlays=(HOLD,)).detail == "h1 of ann: hands in it"
    assert "in repair" in stands(AT_REST, runs(OLD), kept=in_repair(NOW_S)).detail
    assert stands(AT_REST, runs(OLD, LOST)).detail.startswith("gpu_lost")
    leak = "an emergency goes on in its domain"
    assert stands(AT_REST, runs(OLD), others=leak) == Standing(stand=Stand.BARRED, detail=leak)
    assert stands(GONE, runs(OLD), others=leak).stand is Stand.RECALLED
    handed = marked(facts(labels=REQUIRED), "held", said={QUARANTINED: "{}"})
    assert stands(handed, runs(OLD)).detail == "NVSentinel has it"


DONE = {LABEL: "upgrade-done"}
OLD_ALERT = msgspec.structs.replace(LOST, since=AT - dt.timedelta(seconds=limits.GPU_REPORT_S + 1))


@pytest.mark.parametrize(
    ("of", "told", "stand"),
    [
        (GONE, runs(OLD), Stand.GOING),
        (marked(facts(labels={LABEL: "cordon-required"}), "going"), runs(OLD), Stand.GOING),
        (marked(facts(labels={LABEL: "cordon-required"}), "going"), runs(NEW), Stand.GOING),
        (marked(facts(labels=DONE), "going"), runs(NEW), Stand.DONE),
        (marked(facts(labels=DONE), "going"), runs(NEW, ago_s=61.0), Stand.GOING),
        (marked(facts(labels=DONE), "going"), runs(OLD), Stand.GOING),
        (marked(facts(labels=DONE), "going"), runs(NEW, LOST), Stand.GOING),
        (marked(facts(labels=DONE), "going"), runs(NEW, OLD_ALERT), Stand.FAILED),
        (marked(facts(labels=DONE, gpus="7"), "going"), runs(NEW), Stand.GOING),
        (marked(facts(labels={LABEL: "upgrade-failed"}), "going"), runs(OLD), Stand.FAILED),
        (marked(facts(labels=DONE), "going", ago_s=limits.FOREIGN_STUCK_S), runs(OLD), Stand.FAILED),
        (marked(facts(labels=DONE, hold="gridplane-remedies"), "going"), runs(NEW, LOST), Stand.FAILED),
        (marked(facts(labels=REQUIRED, spec={"unschedulable": True}), "going"), runs(OLD), Stand.RECALLED),
        (marked(facts(labels=DONE), "going", rollout="before"), runs(OLD), Stand.RECALLED),
        (marked(facts(labels={LABEL: "cordon-required"}), "going", rollout="before"), runs(OLD), Stand.GOING),
    ],
)  # fmt: skip
def test_one_that_was_let_go(of: NodeFacts, told: GpuNodeStatus, stand: Stand) -> None:
    assert stands(of, told).stand is stand


def test_a_hold_takes_back_whom_nobody_has_begun_on() -> None:
    assert stands(GONE, runs(OLD), overlays=(HOLD,)).stand is Stand.RECALLED
    at_work = marked(facts(labels={LABEL: "pod-restart-required"}), "going")
    assert stands(at_work, runs(OLD), overlays=(HOLD,)).stand is Stand.GOING


@pytest.mark.parametrize(
    ("labels", "mig", "has"),
    [
        ({}, None, True),
        ({}, "all-disabled", True),
        ({}, SEVEN, False),
        (PARTED, SEVEN, True),
        (PARTED, "all-disabled", False),
        ({CONFIG: SEVEN, STATE: "pending"}, SEVEN, False),
        ({CONFIG: SEVEN, STATE: "failed"}, SEVEN, False),
    ],
)
def test_whether_it_is_parted_as_declared(
    labels: dict[str, str], mig: str | None, has: bool
) -> None:
    assert has_mig(facts(labels=labels).node, want_of(wanting(None, mig))) is has


@pytest.mark.parametrize(
    ("of", "stand"),
    [
        (marked(facts(), "held"), Stand.BEHIND),
        (marked(facts(), "held", said={GAVE_UP: SEVEN}), Stand.BARRED),
        (marked(facts(labels=PARTED), "held"), Stand.DONE),
        (marked(facts(), "going"), Stand.GOING),
        (marked(facts(hold=BY), "going"), Stand.GOING),
        (marked(facts(hold=BY), "going", said={GAVE_UP: SEVEN}), Stand.FAILED),
        (marked(facts(labels=PARTED, hold=BY), "going"), Stand.DONE),
        (marked(facts(labels={CONFIG: SEVEN, STATE: "pending"}, hold=BY), "going"), Stand.GOING),
    ],
)
def test_one_whose_gpus_are_to_be_parted(of: NodeFacts, stand: Stand) -> None:
    assert stands(of, runs(OLD), wanting(OLD, SEVEN)).stand is stand


def test_the_operator_is_let_to_no_node_by_a_hold_of_ours() -> None:
    assert facts(hold=BY).node.labels[SKIP_DRIVER_UPGRADE] == "true"


def test_what_is_left_to_the_operator_has_nothing_to_want() -> None:
    assert not str(want_of(DEVICE))
