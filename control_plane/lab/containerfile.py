"""A Containerfile, carried out without a builder: the last stage, on a tree that stands for the one below it.

What it knows is what ours uses; anything else is an error that names the line. RUN has no network: what a
step needs is bound into it. The file is the recipe for builders too, and there is no second one.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.lab.commands import run

_CONTINUED = re.compile(r"\\\n")
_BIND = re.compile(r"--mount=type=bind,source=(?P<source>[\w./-]+),target=(?P<target>/[\w./-]+)\s+")
_SETTINGS = frozenset({"ENV", "WORKDIR", "USER", "ENTRYPOINT"})


class NotUnderstood(ControlPlaneError):
    """An instruction that is not carried out here. The author of the Containerfile acts."""


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of the context that one step sees, and that is no part of the image."""

    source: str
    target: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One RUN."""

    command: str
    binds: tuple[Bind, ...]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What the last stage does to the stage that it is from, and how its containers are run."""

    packages: tuple[str, ...]
    """Of Debian, in the stage below: its `ARG PACKAGES`."""
    steps: tuple[Step, ...]
    environment: Mapping[str, str]
    user: str
    folder: str
    entrypoint: tuple[str, ...]


def read(text: str) -> Recipe:
    """The recipe of a Containerfile with a stage `debian`, and one that is from it.

    Raises:
        NotUnderstood: it has another shape, or an instruction that is not known here.
    """
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stage = ""
    packages: tuple[str, ...] = ()
    steps: list[Step] = []
    environment: dict[str, str] = {}
    settings: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in _CONTINUED.sub(" ", lines).splitlines())):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "FROM":
            stage = rest
        elif word == "ARG" and stage.endswith(" AS debian") and rest.startswith("PACKAGES="):
            packages = tuple(shlex.split(rest)[0].removeprefix("PACKAGES=").split())
        elif word == "RUN" and stage == "debian" and not settings and not environment:
            steps.append(_step(rest, line))
        elif word == "ENV" and stage == "debian":
            for pair in shlex.split(rest):
                variable, _, value = pair.partition("=")
                environment[variable] = value
        elif word in _SETTINGS and stage == "debian":
            settings[word] = rest
        elif word != "RUN" or not stage.endswith(" AS debian"):
            # Also a RUN after a setting: a builder would run it under that setting.
            raise NotUnderstood(f"the Containerfile has an instruction unknown here: {line}")
    if not packages or not steps or settings.keys() != _SETTINGS - {"ENV"}:
        raise NotUnderstood(
            "the Containerfile needs a stage `debian` with ARG PACKAGES, and a stage from it with RUN, "
            "WORKDIR, USER and ENTRYPOINT"
        )
    return Recipe(
        packages=packages,
        steps=tuple(steps),
        environment=environment,
        user=settings["USER"],
        folder=settings["WORKDIR"],
        entrypoint=tuple(json.loads(settings["ENTRYPOINT"])),
    )


def _step(rest: str, line: str) -> Step:
    binds: list[Bind] = []
    while match := _BIND.match(rest):
        binds.append(Bind(source=match["source"], target=match["target"]))
        rest = rest[match.end() :]
    if rest.startswith(("--", "[")):
        raise NotUnderstood(f"the Containerfile has an instruction unknown here: {line}")
    return Step(command=rest, binds=tuple(binds))


def carry_out(recipe: Recipe, root: Path, context: Path, *, epoch_s: int) -> None:
    """Do the steps to a tree. Needs root; leaves no mount, also when a step fails.

    Args:
        recipe: what to do.
        root: the tree, to which it is done.
        context: where the bound folders are.
        epoch_s: the time that programs are told to write into files, in seconds since 1970.

    Raises:
        CommandFailed: a step ended with an error; its last words are in the message.
    """
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch_s),
        "PYTHONHASHSEED": "0",
    }
    for step in recipe.steps:
        with ExitStack() as made:
            mounts = []
            for bind in step.binds:
                point = root / bind.target.lstrip("/")
                point.mkdir()
                made.callback(point.rmdir)
                mounts.append(
                    shlex.join(
                        ["mount", "--bind", "-o", "ro", str(context / bind.source), str(point)]
                    )
                )
            variables = [f"{name}={value}" for name, value in environment.items()]
            inside = shlex.join(
                ["env", "-i", *variables, "chroot", str(root), "/bin/sh", "-ec", step.command]
            )
            # Mounts, network and processes are the step's own: they end with it.
            run(
                "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
                "sh", "-ec", "\n".join(["umask 022", *mounts, f"exec {inside}"]),
            )  # fmt: skip
