"""Which software a GPU node is to run, and the marks by which the operator's upgrades are held back. Pure.

A node whose software comes in waves is held back always, at rest too: NVIDIA's upgrade controller begins as
soon as its own declaration changes, which is another one than ours and may come first. It is let go when its
wave has come and it costs no domain more than its budget, and held back again once it is seen well. What is
said here stands on the node, so that whoever leads next goes on with it. Label: gpu-operator v26.7.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE
from control_plane.core.moments import moment_text, seconds_in
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE, Node

MANAGER: Final = "gridplane-software"
"""Who owns the marks: a skip label that a hold or a person set as well stays when ours is given up."""
BY: Final = "gridplane-software"
"""Who holds a node whose GPUs are partitioned anew."""
STEP: Final = "gridplane.dev/software-step"
ROLLOUT: Final = "gridplane.dev/software-rollout"
SINCE: Final = "gridplane.dev/software-since"
WHY: Final = "gridplane.dev/software-why"


class Step(StrEnum):
    """Where a node's marks say that it is."""

    NONE = ""
    """It has none of ours."""
    HELD = "held"
    """The operator is told to leave it out."""
    GOING = "going"
    """It was let go: it counts as down from now on until it is seen well."""
    FAILED = "failed"
    """It did not end well. Held back again; a person looks."""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Ours, on a node."""

    step: Step
    rollout: str = ""
    """The one that let it go last; it stays there after."""
    since_s: float = 0.0
    """When it was let go."""
    why: str = ""
    """Of one that failed."""


class Want(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is declared of a node's software; `None` is left to the operator."""

    driver: str | None = None
    mig: str | None = None

    def __str__(self) -> str:
        parts = [f"driver {self.driver}"] if self.driver is not None else []
        parts += [f"MIG {self.mig}"] if self.mig is not None else []
        return ", ".join(parts)


_STEPS: Final = {step.value: step for step in Step}


def marks_in(node: Node) -> Marks:
    """What a node's marks tell. A word that nobody knows is taken as the one that costs most: let go."""
    said = node.annotations
    return Marks(
        step=_STEPS.get(said.get(STEP, ""), Step.GOING),
        rollout=said.get(ROLLOUT, ""),
        since_s=seconds_in(said.get(SINCE, "")) or 0.0,
        why=said.get(WHY, ""),
    )


def marks_body(node: Node, marks: Marks, *, lets_upgrade: bool = False) -> dict[str, Any]:
    """What is applied to mark a node, onto it as it was read; with no step all of ours is given up."""
    words = {STEP: marks.step.value} if marks.step is not Step.NONE else {}
    if words and marks.rollout:
        words |= {ROLLOUT: marks.rollout, SINCE: moment_text(marks.since_s)}
    if marks.step is Step.FAILED:
        words[WHY] = marks.why
    held = marks.step is not Step.NONE and not lets_upgrade
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {
            "name": node.name,
            "uid": node.uid,
            "resourceVersion": node.version,
            "labels": {SKIP_DRIVER_UPGRADE: "true"} if held else {},
            "annotations": words,
        },
    }


def branch_of(driver: str) -> int:
    """Of a driver's version: `595` of `595.91.07`."""
    return int(driver.partition(".")[0])


def is_step_back(before: str, after: str) -> bool:
    """Whether a version is of an older branch than another.

    Within a branch a driver may be rolled back: that is how a bad one is left.
    """
    return branch_of(after) < branch_of(before)
