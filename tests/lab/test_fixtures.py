"""What a machine without the programs is told: loudly that tests did not run, and in CI as a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("selection", "workers", "code", "told"),
    [("lab", "0", 1, True), ("lab", "2", 1, True), ("not lab", "0", 0, False)],
)
def test_tests_that_cannot_run_fail_in_ci_unless_they_were_left_out(
    tmp_path: Path, selection: str, workers: str, code: int, told: bool
) -> None:
    bare = {**os.environ, "CI": "1", "PATH": "/usr/bin:/bin", "GRIDPLANE_CACHE": str(tmp_path)}
    bare.pop("KUBEBUILDER_ASSETS", None)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", selection, "-n", workers,
            "--dist", "loadscope",
            "tests/lab/test_render.py", "tests/lab/test_pulumi.py",
            "tests/lab/test_programs.py::test_every_program_has_its_pins",
        ],
        cwd=ROOT, env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert ("tests did not run: etcd 3.6.14 is not on this machine" in done.stdout) is told
    assert ("pulumi-resource-kubernetes" in done.stdout) is told
