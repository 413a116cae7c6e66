"""How a node's GPUs are partitioned: asked of NVIDIA's MIG manager by one label, told by another.

Facts: gpu-operator v26.7, mig-manager v0.15. It does not drain, needs idle GPUs, and may reboot the node.
Until it has seen a new value the old state still stands there, so `pending` is written together with what
is asked for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE
from control_plane.core.moments import seconds_in
from control_plane.core.node_hold import Node

MANAGER: Final = "gridplane-mig"
CONFIG: Final = "nvidia.com/mig.config"
STATE: Final = "nvidia.com/mig.config.state"
PENDING, REBOOTING, SUCCESS, FAILED = "pending", "rebooting", "success", "failed"
WANTED: Final = "gridplane.dev/mig-wanted"
BEFORE: Final = "gridplane.dev/mig-before"
SINCE: Final = "gridplane.dev/mig-since"
GAVE_UP: Final = "gridplane.dev/mig-failed"
"""The profile that did not work here: it is not asked for again before somebody says so."""


class MigState(StrEnum):
    """Where a change is."""

    DONE = "done"
    """The MIG manager says that it stands as asked."""
    TO_ASK = "to_ask"
    WORKING = "working"
    OVERDUE = "overdue"
    """It failed, or takes too long: the old profile is asked for."""
    GAVE_UP = "gave_up"
    """It failed here before: a person decides."""


class MigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's labels and words tell of a change."""

    state: MigState
    told: str = ""
    """The MIG manager's own word."""
    before: str = ""
    """The profile that is restored; empty where there was none."""


def mig_of(node: Node, profile: str, *, now_s: float, lasts_s: float) -> MigChange:
    """Where a change to a profile is on a node.

    Args:
        node: as it was read.
        profile: that is asked for.
        now_s: policy time.
        lasts_s: how long it may take.
    """
    labels, said = node.labels, node.annotations
    told, is_set = labels.get(STATE, ""), labels.get(CONFIG, "") == profile
    before = said.get(BEFORE, "")
    if said.get(GAVE_UP) == profile:
        return MigChange(state=MigState.GAVE_UP, told=told, before=before)
    if not is_set:
        return MigChange(state=MigState.TO_ASK, told=told, before=labels.get(CONFIG, ""))
    if told == SUCCESS:
        return MigChange(state=MigState.DONE, told=told, before=before)
    if said.get(WANTED) != profile:
        # Somebody else asked for the same: it is waited for, and nothing of theirs restored.
        state = MigState.GAVE_UP if told == FAILED else MigState.WORKING
        return MigChange(state=state, told=told, before=before)
    since_s = seconds_in(said.get(SINCE, ""))
    is_late = since_s is None or now_s - since_s >= lasts_s
    state = MigState.OVERDUE if told == FAILED or is_late else MigState.WORKING
    return MigChange(state=state, told=told, before=before)


def ask_body(node: Node, profile: str, *, now_s: float) -> dict[str, Any]:
    """What is applied to ask for a profile, onto the node as it was read."""
    since = dt.datetime.fromtimestamp(int(now_s), dt.UTC).isoformat()
    words = {WANTED: profile, BEFORE: node.labels.get(CONFIG, ""), SINCE: since}
    return _body(node, {CONFIG: profile, STATE: PENDING}, words)


def restore_body(node: Node, profile: str, before: str) -> dict[str, Any]:
    """What is applied once it failed: the old profile, and the word that the new one does not work here."""
    labels = {CONFIG: before, STATE: PENDING} if before else {}
    return _body(node, labels, {GAVE_UP: profile, BEFORE: before})


def done_body(node: Node, profile: str) -> dict[str, Any]:
    """What is applied once it stands: the profile stays, the words go."""
    return _body(node, {CONFIG: profile}, {})


def _body(node: Node, labels: Mapping[str, str], words: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {
            "name": node.name,
            "uid": node.uid,
            "resourceVersion": node.version,
            "labels": dict(labels),
            "annotations": dict(words),
        },
    }
