"""The return gate opens on what was seen, never on what nobody read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.core.gpu import AlertKind, GpuSeen, NodeSeen, RowRemap, Trouble
from control_plane.core.gpu_gate import AtGate, Depth, Diagnosis, Wants, at_gate, depth_for
from control_plane.core.remedy_case import Action

NOW_S = 10_000.0
CLEAN = RowRemap(corrected=0, uncorrected=0, pending=False, failed=False)
GPU = GpuSeen(index=0, pci="0F", remap=CLEAN, enforced_limit_w=500.0, fabric="completed")
WANTS = Wants(gpus=2, driver="595.91.07", cap_w=500.0, fabric=True, depth=Depth.MEDIUM)
SEEN = NodeSeen(
    at_s=NOW_S - 5.0,
    driver="595.91.07",
    gpus=(GPU, msgspec.structs.replace(GPU, index=1, pci="1B")),
)
RAN = Diagnosis(at_s=NOW_S - 60.0, depth=Depth.MEDIUM, passed=True)
FOUND = AtGate(seen=SEEN, allocatable=2, diagnosis=RAN, since_s=NOW_S - 600.0)


def missing(*, wants: Wants = WANTS, **changes: Any) -> tuple[str, ...]:
    found = msgspec.structs.replace(FOUND, **changes)
    return at_gate(wants=wants, found=found, now_s=NOW_S).missing


def one_gpu(**changes: object) -> tuple[str, ...]:
    gpus = (msgspec.structs.replace(GPU, **changes), SEEN.gpus[1])
    return missing(seen=msgspec.structs.replace(SEEN, gpus=gpus))


def test_a_node_as_it_should_be_passes_and_of_the_moment_it_was_seen() -> None:
    got = at_gate(wants=WANTS, found=FOUND, now_s=NOW_S)
    assert (got.at_s, got.missing) == (SEEN.at_s, ())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lost": True}, "1 of 2 GPUs answer"),
        ({"remap": None}, "0F: whether rows wait to be remapped is unknown"),
        ({"remap": RowRemap(corrected=0, uncorrected=1, pending=True, failed=False)},
         "0F: rows wait to be remapped"),
        ({"remap": RowRemap(corrected=0, uncorrected=1, pending=False, failed=True)},
         "0F: rows could not be remapped"),
        ({"fabric": "in progress"}, "0F: fabric is in progress"),
        ({"fabric": None}, "0F: fabric is unknown"),
        ({"enforced_limit_w": 700.0}, "0F: 700 W are enforced, granted are 500"),
        ({"enforced_limit_w": None}, "0F: which power limit is enforced is unknown"),
    ],
)  # fmt: skip
def test_each_gpu_is_looked_at(changes: dict[str, Any], text: str) -> None:
    assert one_gpu(**changes) == (text,)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"allocatable": 1}, "allocatable GPUs are 1, declared are 2"),
        ({"allocatable": None}, "allocatable GPUs are unknown, declared are 2"),
        ({"diagnosis": None}, "a medium diagnosis has not run since"),
        ({"since_s": NOW_S - 30.0}, "a medium diagnosis has not run since"),
        ({"diagnosis": msgspec.structs.replace(RAN, depth=Depth.QUICK)},
         "a medium diagnosis has not run since"),
        ({"diagnosis": msgspec.structs.replace(RAN, passed=False, detail="GPU 1: memory")},
         "its medium diagnosis failed: GPU 1: memory"),
        ({"seen": None}, "its GPUs cannot be read"),
        ({"seen": NodeSeen(at_s=NOW_S, trouble=Trouble.MISMATCH)}, "its GPUs cannot be read: mismatch"),
        ({"seen": msgspec.structs.replace(SEEN, driver="580.17")},
         "driver is 580.17, pinned is 595.91.07"),
        ({"seen": msgspec.structs.replace(SEEN, driver=None)},
         "driver is unknown, pinned is 595.91.07"),
    ],
)  # fmt: skip
def test_the_node_is_looked_at(changes: dict[str, Any], text: str) -> None:
    assert missing(**changes) == (text,)


def test_a_partitioned_gpu_is_not_asked_what_it_cannot_tell() -> None:
    gpus = tuple(msgspec.structs.replace(gpu, remap=None) for gpu in SEEN.gpus)
    parted = msgspec.structs.replace(WANTS, partitioned=True)
    seen = msgspec.structs.replace(SEEN, gpus=gpus)
    assert missing(wants=parted, seen=seen, allocatable=0) == ()


@pytest.mark.parametrize(
    ("actions", "alerts", "depth"),
    [
        ([], [], Depth.NONE),
        ([Action.DRAIN], [], Depth.NONE),
        ([Action.RESET_GPU], [], Depth.QUICK),
        ([Action.REBOOT, Action.RESET_GPU], [AlertKind.XID], Depth.MEDIUM),
        ([], [AlertKind.ECC_UNCORRECTED], Depth.LONG),
        ([Action.QUARANTINE], [], Depth.LONG),
    ],
)
def test_what_it_was_out_for_says_how_deep(
    actions: list[Action], alerts: list[AlertKind], depth: Depth
) -> None:
    assert depth_for(actions=actions, alerts=alerts) == depth
    assert depth_for(actions=actions, alerts=alerts, is_new=True) == Depth.LONG
