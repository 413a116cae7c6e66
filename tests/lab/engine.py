"""The Pulumi CLI as a test speaks to it, and the environment that the Automation API works in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from control_plane.lab import pulumi

_NOWHERE = "http://127.0.0.1:9"
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIMIT_S = 120


class Failed(Exception):
    """Pulumi ended with another code than 0; everything that it said."""


class Engine:
    """An engine of its own: home and backend below one folder.

    No virtual environment is active, and whatever asks for the internet is sent to a closed port.
    """

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        bare = {"HOME": os.environ["HOME"], "PATH": _SYSTEM, "LANG": "C.UTF-8"}
        self.environment = {
            **pulumi.environment(folder, bare),
            "KUBECONFIG": str(kubeconfig),
            "HTTPS_PROXY": _NOWHERE,
            "HTTP_PROXY": _NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def into(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give this process the same environment: the Automation API starts `pulumi` from there."""
        for name in os.environ.keys() - self.environment.keys():
            if name.startswith("PULUMI_") or name == "VIRTUAL_ENV":
                monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def project(self, source: Path, target: Path) -> Project:
        """A project folder as a checkout has it: the program, and `.venv` beside it."""
        shutil.copytree(source, target)
        (target / ".venv").symlink_to(sys.prefix)
        return Project(target, self.environment)


class Project:
    """A folder with a Pulumi.yaml."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)

    def run(self, *arguments: str) -> str:
        """What `pulumi` says, of either stream.

        Raises:
            Failed: it ended with another code than 0.
        """
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color=never", *arguments],  # noqa: S607 - PATH is ours
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise Failed(done.stdout)
        return done.stdout

    def stack(self, name: str, **config: str) -> None:
        """Make a stack and choose it."""
        self.run("stack", "init", name)
        values = [f"--plaintext={key}={value}" for key, value in config.items()]
        self.run("config", "set-all", *values)

    def outputs(self) -> Any:
        return json.loads(self.run("stack", "output", "--json"))
