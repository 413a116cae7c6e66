"""The inventory as Git has it. Reads the repository that the folder is in, and nothing else."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from control_plane.core import limits
from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import is_data

_TIMEOUT_S = 60.0


class _GitFailed(Exception):
    """What Git said."""


def commit_of(root: Path) -> str | None:
    """The commit of the folder; `None` where it is in no repository or differs from the commit."""
    try:
        if _git(root, "status", "--porcelain", "--", ".").strip():
            return None
        return _git(root, "rev-parse", "HEAD").decode().strip()
    except _GitFailed:
        return None


def place_of(root: Path) -> str:
    """Where the folder is in its repository, as `path/`; empty at the top, or where there is none."""
    try:
        return _git(root, "rev-parse", "--show-prefix").decode().strip()
    except _GitFailed:
        return ""


def files_at(root: Path, ref: str) -> dict[str, bytes]:
    """The inventory's data files at a commit, by path below its root.

    Raises:
        DeclarationError: no such reference, or no repository; who named the reference acts.
    """
    try:
        return _archived(root, ref)
    except _GitFailed as error:
        found = Problems()
        found.add_file(errors.GIT, root.name, f"{quoted(ref)}: {error}")
        raise DeclarationError(found.found()) from error


def _archived(root: Path, ref: str) -> dict[str, bytes]:
    if ref.startswith("-"):
        raise _GitFailed("that is no reference")
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()
    top = Path(_git(root, "rev-parse", "--show-toplevel").decode().strip())
    below = _git(root, "rev-parse", "--show-prefix").decode().strip().rstrip("/")
    packed = _git(top, "archive", "--format=tar", f"{commit}:{below}" if below else commit)
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and is_data(member.name):
                if member.size > limits.PLACEMENT_MAX_BYTES:
                    raise _GitFailed(f"{member.name} is larger than a file of an inventory")
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
        raise _GitFailed(f"git cannot be run here: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitFailed(said[0] if said else "Git does not know it")
    return done.stdout
