"""Waves of drivers on the command line: who looks, and who lets halted ones go on."""

from __future__ import annotations

import json

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.core.gpu_software import Want
from control_plane.core.remedy_kept import SiteKept
from tests.cli.test_saying_afar import Far, far
from tests.kube.remedies import ONE

__all__ = ["far"]
ID = "gpu-gpu-inference-1790000000"
ROLLOUT = SoftwareRollout(
    id=ID, profile="gpu-inference", want=Want(driver="610.57.04"), waves=(1, 2),
    state=SoftwareState.HALTED, since_s=1_790_000_000.0, failed=(ONE,),
    detail=f"1 of 1 failed: {ONE}: the operator gave up the upgrade of its driver",
)  # fmt: skip
Out = pytest.CaptureFixture[str]


def reads(far: Far) -> tuple[str, ...]:
    """Options of who only looks."""
    found = list(far.options)
    at = found.index("--by")
    return tuple(found[:at] + found[at + 2 :])


def test_halted_waves_are_seen_and_a_person_lets_them_go_on(far: Far, capsys: Out) -> None:
    far.cluster.together = SiteKept(software={"gpu-inference": ROLLOUT})
    assert main(("get", "rollouts", *reads(far))) == Exit.OK
    assert "driver 610.57.04" in capsys.readouterr().out
    assert main(("rollout", "show", ID, *reads(far))) == Exit.OK
    shown = capsys.readouterr().out
    assert "halted, wave 1 of 2" in shown
    assert "the operator gave up" in shown
    assert main(("rollout", "show", *reads(far))) == Exit.OK
    assert "driver 610.57.04 for gpu-inference" in capsys.readouterr().out
    assert main(("explain", ONE, *reads(far))) == Exit.OK
    assert f"go on with: gridplane release {ID}" in capsys.readouterr().out

    assert main(("release", ID, *far.options)) == Exit.OK
    assert "go on with driver 610.57.04" in capsys.readouterr().out
    after = far.cluster.together.software["gpu-inference"]
    assert (after.state, after.failed, after.forgiven) == (SoftwareState.RUNNING, (), (ONE,))
    assert "ann" in after.detail
    assert main(("release", ID, *far.options)) == Exit.USAGE, "there is nothing to end"
    capsys.readouterr()


def test_scripts_get_all_of_it(far: Far, capsys: Out) -> None:
    far.cluster.together = SiteKept(software={"gpu-inference": ROLLOUT})
    assert main(("rollout", "show", ID, "-o", "json", *reads(far))) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["want"], told["failed"]) == ({"driver": "610.57.04"}, [ONE])
