"""The real Pulumi engine, closed: a home and a backend of its own, nothing fetched, our programs on PATH.

Only the environment is made here: nothing below `control_plane/lab` imports Pulumi.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from control_plane.lab.programs import ProgramMissing, find, find_all, on_path

LANGUAGE_HOST = "pulumi-language-python"
PROGRAMS = ("pulumi", LANGUAGE_HOST, "pulumi-resource-kubernetes")
PASSPHRASE = "gridplane-lab"  # noqa: S105 - see below
"""No secret: it would lie beside what it opens. Being the same in every lab, it opens a checkout's stack
configuration in the next one too."""


def programs() -> dict[str, Path]:
    """The engine, what runs Python programs for it, and the Kubernetes provider.

    Raises:
        ProgramMissing: it names every one that is missing.
    """
    names = list(PROGRAMS)
    with contextlib.suppress(ProgramMissing):
        # A release of Pulumi has its own language host beside it, and uses that one.
        if find("pulumi").resolve().with_name(LANGUAGE_HOST).is_file():
            names.remove(LANGUAGE_HOST)
    return find_all(names)


def environment(folder: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables under which `pulumi` keeps everything below `folder` and fetches nothing.

    Args:
        folder: made where it is missing; what stacks are in it stays.
        base: the variables to start from, those of this process by default. None of Pulumi's own is
            taken over: neither a login nor a passphrase of the caller reaches the lab.

    Raises:
        ProgramMissing: a program has to be built first.
    """
    found = programs()
    folder = folder.resolve()
    home, state = folder / "home", folder / "state"
    for made in (folder, home, state):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    taken = os.environ if base is None else base
    return {
        **{name: value for name, value in taken.items() if not name.startswith("PULUMI_")},
        "PATH": on_path(found, taken.get("PATH", "")),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
