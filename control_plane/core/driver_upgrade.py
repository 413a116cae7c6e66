"""What NVIDIA's driver upgrade controller is at on a node, and whether anybody else may work there meanwhile.

Label and states: gpu-operator v26.7 through k8s-operator-libs `pkg/upgrade` (2026-04). They are told by a
label alone, so a value that is not known here blocks: it is of a later release.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE, Node

LABEL: Final = "nvidia.com/gpu-driver-upgrade-state"


class UpgradeState(StrEnum):
    """The label's values, in the order in which a node goes through them."""

    NONE = ""
    """Never upgraded by the operator, or it does not manage this node."""
    UPGRADE_REQUIRED = "upgrade-required"
    NODE_MAINTENANCE_REQUIRED = "node-maintenance-required"
    """Only where a maintenance operator is asked (`NodeMaintenance`)."""
    CORDON_REQUIRED = "cordon-required"
    WAIT_FOR_JOBS_REQUIRED = "wait-for-jobs-required"
    POD_DELETION_REQUIRED = "pod-deletion-required"
    DRAIN_REQUIRED = "drain-required"
    POD_RESTART_REQUIRED = "pod-restart-required"
    VALIDATION_REQUIRED = "validation-required"
    UNCORDON_REQUIRED = "uncordon-required"
    POST_MAINTENANCE_REQUIRED = "post-maintenance-required"
    UPGRADE_DONE = "upgrade-done"
    UPGRADE_FAILED = "upgrade-failed"


class Worker(StrEnum):
    """Who is at work on a node."""

    NOBODY = "nobody"
    WAITS = "waits"
    """The operator wants to, and has not begun: a hold keeps it off."""
    OPERATOR = "operator"
    """It has begun. It may cordon, end pods, unload the driver and uncordon at any moment."""
    PERSON = "person"
    """It gave up: somebody looks at the node."""
    UNKNOWN = "unknown"
    """A state of a later release."""


_STATES: Final = {state.value: state for state in UpgradeState}
_DEPLOY: Final = "nvidia.com/gpu.deploy."
_PAUSED: Final = "paused-for-driver-upgrade"
_WORKERS: Final = {
    UpgradeState.NONE: Worker.NOBODY,
    UpgradeState.UPGRADE_DONE: Worker.NOBODY,
    UpgradeState.UPGRADE_REQUIRED: Worker.WAITS,
    # Trap: it turns into done as soon as the driver's pod is ready, unlooked at (gpu-operator#2549).
    UpgradeState.UPGRADE_FAILED: Worker.PERSON,
}


class DriverUpgrade(msgspec.Struct, frozen=True, kw_only=True):
    """What the labels of a node say about its driver."""

    state: UpgradeState | None
    """`None` for a value that is not known."""
    value: str
    """As it stands there."""
    worker: Worker
    is_skipped: bool
    """Whether the operator is told to leave the node out."""
    paused: tuple[str, ...] = ()
    """Operands that the operator has taken off the node for its work, by their labels."""

    @property
    def blocks(self) -> bool:
        """Whether nobody else may begin work on the node: the operator is at it, or nobody knows."""
        return self.worker in {Worker.OPERATOR, Worker.UNKNOWN}

    @property
    def strands(self) -> tuple[str, ...]:
        """Operands that stayed away though nobody is at work (a fault of operators before 26.3.2)."""
        return self.paused if self.worker is Worker.NOBODY else ()

    @property
    def may_begin(self) -> bool:
        """Whether the operator may begin at any moment, and what is begun here would race it."""
        return self.worker is Worker.WAITS and not self.is_skipped


def upgrade_of(node: Node) -> DriverUpgrade:
    """Where a node is in a driver upgrade."""
    value = node.labels.get(LABEL, "")
    state = _STATES.get(value)
    return DriverUpgrade(
        state=state,
        value=value,
        worker=Worker.UNKNOWN if state is None else _WORKERS.get(state, Worker.OPERATOR),
        is_skipped=node.labels.get(SKIP_DRIVER_UPGRADE) == "true",
        paused=tuple(
            sorted(
                name.removeprefix(_DEPLOY)
                for name, told in node.labels.items()
                if name.startswith(_DEPLOY) and told == _PAUSED
            )
        ),
    )
