"""The states of NVIDIA's driver upgrade: who is at work, and whether that is in our way."""

from __future__ import annotations

import pytest

from control_plane.core.driver_upgrade import LABEL, UpgradeState, Worker, upgrade_of
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE, Node

FREE = {"", "upgrade-done", "upgrade-required", "upgrade-failed"}


def node(**labels: str) -> Node:
    return Node(
        name="n1", uid="u", version="1", labels=labels, annotations={}, is_cordoned=False, taints=()
    )


@pytest.mark.parametrize("state", list(UpgradeState))
def test_whatever_the_operator_has_begun_blocks(state: UpgradeState) -> None:
    found = upgrade_of(node(**{LABEL: state.value}))
    assert found.state is state
    assert found.blocks == (state.value not in FREE)


@pytest.mark.parametrize(
    ("value", "worker"),
    [
        ("", Worker.NOBODY),
        ("upgrade-done", Worker.NOBODY),
        ("upgrade-required", Worker.WAITS),
        ("drain-required", Worker.OPERATOR),
        ("upgrade-failed", Worker.PERSON),
        ("defragment-required", Worker.UNKNOWN),
    ],
)
def test_who_is_at_work(value: str, worker: Worker) -> None:
    assert upgrade_of(node(**{LABEL: value})).worker is worker


def test_a_state_of_a_later_release_blocks() -> None:
    found = upgrade_of(node(**{LABEL: "defragment-required"}))
    assert (found.state, found.value, found.blocks) == (None, "defragment-required", True)


def test_a_hold_keeps_off_an_operator_that_has_not_begun() -> None:
    waits = node(**{LABEL: "upgrade-required"})
    assert upgrade_of(waits).may_begin
    held = node(**{LABEL: "upgrade-required", SKIP_DRIVER_UPGRADE: "true"})
    assert not upgrade_of(held).may_begin
    assert upgrade_of(held).is_skipped


def test_operands_that_stayed_away_are_named_once_nobody_is_at_work() -> None:
    paused = {"nvidia.com/gpu.deploy.dcgm": "paused-for-driver-upgrade"}
    running = {"nvidia.com/gpu.deploy.driver": "true"}
    found = upgrade_of(node(**{LABEL: "pod-restart-required"}, **paused, **running))
    assert (found.paused, found.strands) == (("dcgm",), ())
    assert upgrade_of(node(**{LABEL: "upgrade-done"}, **paused, **running)).strands == ("dcgm",)
