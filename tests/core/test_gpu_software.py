"""Marks by which a GPU node is held back from driver upgrades, and let go."""

from __future__ import annotations

import pytest

from control_plane.core.gpu_software import (
    ROLLOUT,
    SINCE,
    STEP,
    Marks,
    Step,
    Want,
    branch_of,
    is_step_back,
    marks_body,
    marks_in,
)
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE, Node


def node(**annotations: str) -> Node:
    return Node(
        name="n1", uid="u1", version="7", labels={}, annotations=annotations, is_cordoned=False,
        taints=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "lets", "skips"),
    [
        (Step.NONE, False, False),
        (Step.HELD, False, True),
        (Step.FAILED, False, True),
        (Step.GOING, False, True),
        (Step.GOING, True, False),
    ],
)
def test_the_operator_is_kept_off_by_every_step_but_one(
    step: Step,
    lets: bool,
    skips: bool,
) -> None:
    why = "the operator gave up" if step is Step.FAILED else ""
    marks = Marks(step=step, rollout="gpu-p-1", since_s=1_800_000_000.0, why=why)
    meta = marks_body(node(), marks, lets_upgrade=lets)["metadata"]
    assert (meta["labels"] == {SKIP_DRIVER_UPGRADE: "true"}) is skips
    assert (meta["uid"], meta["resourceVersion"]) == ("u1", "7")
    if step is Step.NONE:
        assert meta["annotations"] == {}
    else:
        assert marks_in(node(**meta["annotations"])) == marks


def test_a_word_that_nobody_knows_counts_as_let_go() -> None:
    assert marks_in(node()).step is Step.NONE
    assert marks_in(node(**{STEP: "of a later release"})).step is Step.GOING
    assert marks_in(node(**{STEP: "held", ROLLOUT: "r", SINCE: "nonsense"})).since_s == 0.0


def test_branches() -> None:
    assert branch_of("595.91.07") == 595
    assert not is_step_back("595.91.07", "610.57.04")
    assert not is_step_back("595.91.07", "595.80.01")
    assert is_step_back("595.91.07", "580.171.04")
    assert str(Want(driver="595.91.07", mig="all-1g.18gb")) == "driver 595.91.07, MIG all-1g.18gb"
