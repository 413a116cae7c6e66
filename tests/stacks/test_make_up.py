"""`make up`: a site from one command, and what it says where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.lab.api import ApiLab
from tests.lab.cluster import Cluster
from tests.lab.engine import Engine
from tests.stacks.site import NODE, checkout
from tools import up


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    lab = ApiLab(tmp_path / "lab")
    lab.up()
    lab.join([NODE])
    try:
        yield lab.kubeconfig
    finally:
        lab.down()


@pytest.mark.slow
@pytest.mark.lab("pulumi")
def test_the_platform_comes_up_and_leaves_the_checkout_as_it_was(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = checkout(tmp_path / "checkout", Engine(tmp_path / "unused", kubeconfig)).folder
    before = {path: path.read_bytes() for path in (top / "stacks" / "config").iterdir()}
    monkeypatch.setattr(up, "TOP", top)
    told = ["--site", "lab", "--kubeconfig", str(kubeconfig), "--until", "platform"]
    assert up.main(told) == 0
    assert Cluster(kubeconfig, "gridplane").json("get", "configmap", "gridplane-platform")
    # Once more: the same stack on the same cluster, and nothing to do.
    assert up.main(told) == 0
    assert {path: path.read_bytes() for path in (top / "stacks" / "config").iterdir()} == before


def test_a_kubeconfig_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert up.main(["--site", "lab", "--kubeconfig", "/nowhere/kubeconfig"]) == 1
    assert "/nowhere/kubeconfig is no file" in capsys.readouterr().err


def test_a_step_that_fails_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$1" in up) exit 3;; esac\n')
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert up.main(["--site", "ga-macon"]) == 1
    assert "ended with 3" in capsys.readouterr().err
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "stack select --create ga-macon.cluster",
        "up --yes --skip-preview --stack ga-macon.cluster",
    ]
