"""The inventory as Git has it. Reads the repository that the folder is in, and nothing else."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError
from control_plane.inventory.tree import is_data

_TIMEOUT_S = 60.0


class GitError(ControlPlaneError):
    """Git has no such thing, or is not here; who named the reference acts."""


def commit_of(root: Path) -> str | None:
    """The commit of the folder; `None` where it is in no repository or differs from the commit."""
    try:
        if _git(root, "status", "--porcelain", "--", ".").strip():
            return None
        return _git(root, "rev-parse", "HEAD").decode().strip()
    except GitError:
        return None


def files_at(root: Path, ref: str) -> dict[str, bytes]:
    """The inventory's data files at a commit, by path below its root.

    Raises:
        GitError: no such reference, or no repository.
    """
    if ref.startswith("-"):
        raise GitError(f"'{ref}' is no reference")
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()
    below = _git(root, "rev-parse", "--show-prefix").decode().strip()
    packed = _git(root, "archive", "--format=tar", f"{commit}:{below}" if below else commit)
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and is_data(member.name):
                if member.size > limits.PLACEMENT_MAX_BYTES:
                    raise GitError(f"{member.name} at {ref} is larger than an inventory's file")
                content = archive.extractfile(member)
                files[member.name] = content.read() if content else b""
    return files


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - no shell; references that are options are refused
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the operator's own Git
            check=False,
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git cannot be run here: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        named = said[0] if said else f"no such reference: {arguments[-1].partition('^')[0]}"
        raise GitError(f"git {arguments[0]}: {named}")
    return done.stdout
