"""What a host's containerd has from the start: images imported once, then shared between hosts.

A seed is a containerd root in the cache. Its blobs and committed layers are never written to again, so a
host gets them as hard links: a gigabyte of images in a second, and nothing of it twice on the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from control_plane.lab import debian
from control_plane.lab.commands import CommandFailed, run
from control_plane.lab.programs import cache_folder, keep

_RECIPE = "1"
_IMPORT_S = 600.0
_KEEP_S = 24 * 3600.0
_SERVE_AND_IMPORT = """
containerd --root /run/root --state /run/state --address /run/c.sock >/run/log 2>&1 &
n=0
until ctr --address /run/c.sock version >/dev/null 2>&1; do
  n=$((n+1)); [ $n -lt 400 ] || { tail -n 5 /run/log; exit 1; }; sleep 0.05
done
for f in /run/images/*; do
  ctr --address /run/c.sock --namespace k8s.io images import $f || { tail -n 5 /run/log; exit 1; }
done
kill $! && wait $! || true
"""


def seed(
    archives: Sequence[Path],
    base: Path | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Path:
    """The containerd root that has these images, and those of another seed. Needs root.

    Args:
        archives: of images, as `ctr images import` takes them.
        base: another seed; what changes often is best put upon what does not.
        say: told of what takes long.

    Raises:
        CommandFailed: containerd does not start, or refuses an archive; its words are in the message.
    """
    told = (_RECIPE, debian.NODE.digest, base.name if base else "", *(a.name for a in archives))
    place = (
        cache_folder() / "containerd" / hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
    )
    if place.is_dir():
        os.utime(place)
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    say(f"importing {', '.join(_shown(archive) for archive in archives)}")
    with tempfile.TemporaryDirectory(prefix=".seed-", dir=place.parent) as made:
        fresh = Path(made) / "root"
        if base:
            plant(base, fresh)
        else:
            fresh.mkdir()
        _import(archives, fresh, Path(made))
        keep(fresh, place)
    _forget_old(place.parent)
    return place


def _forget_old(folder: Path) -> None:
    """Those that nobody asked for in a day; hosts that came from one keep what they have."""
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > _KEEP_S:
            shutil.rmtree(path, ignore_errors=True)


def plant(source: Path, target: Path) -> None:
    """Give a host its own containerd root; `target` is not there yet."""
    try:
        run("cp", "--archive", "--link", source, target)
    except CommandFailed:
        # Another file system.
        shutil.rmtree(target, ignore_errors=True)
        run("cp", "--archive", source, target)
    for database in [path for path in target.rglob("*.db") if path.parent.parent == target]:
        own = database.with_suffix(".own")
        shutil.copy2(database, own)
        own.replace(database)


def _import(archives: Sequence[Path], root: Path, scratch: Path) -> None:
    """By the containerd of the hosts' own tree, in namespaces that end with it, and with every mount."""
    inside = scratch / "tree"
    inside.mkdir()
    mounts = [
        f"mount --bind {debian.tree(debian.NODE)} {inside}",
        f"mount -t proc proc {inside}/proc",
        f"mount --rbind /dev {inside}/dev",
        f"mount -t tmpfs tmpfs {inside}/tmp",  # noqa: S108 - inside the tree
        f"mount -t tmpfs tmpfs {inside}/run",
        f"mkdir {inside}/run/root {inside}/run/images",
        f"mount --bind {root} {inside}/run/root",
    ]
    for archive in archives:
        shown = f"{inside}/run/images/{archive.name}"
        mounts.append(f"touch {shown} && mount --bind {archive} {shown}")
    run(
        "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
        "sh", "-c", f"{' && '.join(mounts)} && exec chroot {inside} sh -s",
        text=_SERVE_AND_IMPORT,
        timeout_s=_IMPORT_S,
    )  # fmt: skip


def _shown(archive: Path) -> str:
    return archive.stem.rpartition("-")[0] or archive.stem
