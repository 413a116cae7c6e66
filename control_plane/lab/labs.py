"""Which lab stands in a folder: both forms answer to one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from control_plane.lab import records
from control_plane.lab.api import ApiLab
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.processes import Process


class Lab(Protocol):
    """What a lab can be asked, whatever its form."""

    folder: Path
    kubeconfig: Path

    def programs(self) -> tuple[str, ...]:
        """What runs when the lab is up."""

    def running(self) -> dict[str, Process]:
        """Of these, what runs now."""

    def log_of(self, program: str) -> Path:
        """Its words since the lab was made."""

    def is_ready(self) -> bool:
        """Whether everything runs and the API server is ready."""

    def environment(self) -> Mapping[str, str]:
        """What a program has to know to speak to the lab, run as `command` says."""

    def command(self, arguments: Sequence[str]) -> Sequence[str | Path]:
        """A command, so that it reaches the lab."""


def standing(folder: Path) -> Lab | None:
    """The lab of a folder; `None` where none was set up to its end.

    Raises:
        LabError: the folder's record cannot be read.
    """
    record = records.read(folder)
    if record is None:
        return None
    return ApiLab(folder) if isinstance(record, records.ApiRecord) else ClusterLab(folder)
