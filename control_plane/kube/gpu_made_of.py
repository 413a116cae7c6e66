"""What the GPUs of a node are, held against what is declared and what a person accepted of it. Pure."""

from __future__ import annotations

import msgspec

from control_plane.api.objects import GpuNodeStatus
from control_plane.core.bmc import is_same_board
from control_plane.core.fleet import Device
from control_plane.core.gpu_bom import Expected, Found, compare, in_words, is_acceptable
from control_plane.core.remedy_kept import Accepted
from control_plane.kube.gpu_reported import seen_of


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Number and model of its GPUs, as an agent told them. Serials, memory and cards no agent tells."""

    at_s: float
    gpus: int
    differs: str
    """In words, what is not as declared; empty where nothing is."""
    accepted_by: str = ""
    """The person who accepts it so; empty where nobody does, or has to."""

    @property
    def is_right(self) -> bool:
        """Whether it is what it is to be."""
        return not self.differs or bool(self.accepted_by)


def made_of(
    device: Device, told: GpuNodeStatus | None, *, board: str | None, accepted: Accepted | None
) -> Made | None:
    """What a node is made of; `None` where nobody tells.

    Args:
        device: as it is declared.
        told: by its agent.
        board: UUID of the board that its kubelet names.
        accepted: what a person said of a machine in its slot.
    """
    seen = None if told is None else seen_of(told)
    if seen is None or seen.trouble is not None:
        return None
    models = tuple(gpu.name for gpu in seen.gpus if not gpu.lost)
    if None in models:
        return None
    differ = compare(
        expected=Expected(
            gpus=device.type.gpus or len(models),
            gpu_model=device.type.gpu.model if device.type.gpu is not None else None,
        ),
        found=Found(gpu_models=models),
    )
    words = in_words(differ)
    by = accepted.by if accepted is not None and _is_of(accepted, words, board) else ""
    return Made(at_s=seen.at_s, gpus=len(models), differs=words, accepted_by=by)


def _is_of(accepted: Accepted, words: str, board: str | None) -> bool:
    """Whether the word is of this machine, and of this very difference."""
    if accepted.differs != words or not is_acceptable(words):
        return False
    if accepted.board is None or board is None:
        return accepted.board is board
    return accepted.board == board or is_same_board(accepted.board, board)
