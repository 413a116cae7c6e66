"""The real programs that the lab runs: which versions, and where they are found on this machine.

A program of a fitting version that the machine has already goes first (`KUBEBUILDER_ASSETS`, then PATH);
else the one that `make tools` built into the cache. Nothing is ever downloaded prebuilt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from control_plane.core.errors import ControlPlaneError

KUBERNETES_VERSION = "1.36.3"
"""kubeadm of this release asks for CoreDNS 1.14.2 and etcd 3.6: the pins below go with it."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_ASK_S = 20.0


class ProgramMissing(ControlPlaneError):
    """A program that the lab needs is not on this machine. The operator builds or installs it."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program, pinned."""

    name: str
    family: str
    """The wrapper module below `tools/` whose go.mod and go.sum pin it."""
    package: str
    """Its main package; `.` is the wrapper itself."""
    version: str
    ask: tuple[str, ...] | None
    """Arguments that make it print its version; `None`: it has none, and only ours is used."""
    cold_s: int
    """Seconds that it takes to build on two cores after those before it, with an empty Go cache."""
    version_symbols: tuple[str, ...] = ()
    """Go variables that the build sets to the version, as Kubernetes and Pulumi expect it."""
    symbols: tuple[str, ...] = ()
    """Further `name=value` settings of Go variables."""
    tags: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """Whether a printed version is of the same major and minor release."""
        told, wanted = _VERSION.search(text), _VERSION.match(self.version)
        return told is not None and wanted is not None and told.groups()[:2] == wanted.groups()[:2]


def _kubernetes(name: str, cold_s: int, ask: tuple[str, ...] = ("--version",)) -> Program:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    return Program(
        name=name,
        family="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version=KUBERNETES_VERSION,
        ask=ask,
        cold_s=cold_s,
        version_symbols=("k8s.io/component-base/version.gitVersion",),
        symbols=(
            f"k8s.io/component-base/version.gitMajor={major}",
            f"k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
        ),
    )


PROGRAMS: tuple[Program, ...] = (
    Program(
        name="etcd",
        family="etcd",
        package="go.etcd.io/etcd/server/v3",
        version="3.6.14",
        ask=("--version",),
        cold_s=45,
    ),
    _kubernetes("kube-apiserver", 330),
    _kubernetes("kube-controller-manager", 60),
    _kubernetes("kube-scheduler", 15),
    _kubernetes("kubectl", 30, ("version", "--client")),
    _kubernetes("kubelet", 52),
    _kubernetes("kubeadm", 23, ("version", "-o", "short")),
    _kubernetes("kube-proxy", 15),
    Program(
        name="pause",
        family="pause",
        package=".",
        version="3.10.2",  # ours, under the number that kubeadm of this release asks for
        ask=None,
        cold_s=10,
    ),
    Program(
        name="coredns",
        family="coredns",
        package="github.com/coredns/coredns",
        version="1.14.2",
        ask=("-version",),
        cold_s=180,
    ),
    Program(
        name="kwok",
        family="kwok",
        package="sigs.k8s.io/kwok/cmd/kwok",
        version="0.8.0",
        ask=("--version",),
        cold_s=160,
        version_symbols=("sigs.k8s.io/kwok/pkg/consts.Version",),
    ),
    Program(
        name="kueue",
        family="kueue",
        package="sigs.k8s.io/kueue/cmd/kueue",
        version="0.19.2",
        ask=None,  # beside ours lie the manifests of the same release
        cold_s=300,
        version_symbols=("sigs.k8s.io/kueue/pkg/version.GitVersion",),
    ),
    Program(
        name="gpu-driver-upgrades",
        family="operator-libs",
        package=".",
        version="2025.3.11",  # the day of the newest commit of NVIDIA's library that is a published module
        ask=None,
        cold_s=20,
    ),
    Program(
        name="pulumi",
        family="pulumi",
        package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        version="3.259.0",
        ask=("version",),
        cold_s=280,
        version_symbols=("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version",),
        tags=("osusergo", "grpcnotrace"),
    ),
    Program(
        name="pulumi-language-python",
        family="pulumi-language-python",
        package=".",
        version="3.75.0",
        ask=None,
        cold_s=25,
    ),
    Program(
        name="pulumi-resource-kubernetes",
        family="pulumi-kubernetes",
        package=".",
        version="4.24.0",
        ask=None,
        cold_s=640,
        version_symbols=("github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version",),
    ),
)
"""In the order of building: what shares packages stands together."""

BY_NAME = {program.name: program for program in PROGRAMS}


def cache_folder() -> Path:
    """Where built programs are kept, outside every checkout: `GRIDPLANE_CACHE`, or the user's cache."""
    own = os.environ.get("GRIDPLANE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridplane"


def keep(fresh: Path, place: Path) -> None:
    """Put a folder into the cache, whole; where another process has made it meanwhile, theirs stays.

    Both are the same: a place in the cache is named for what is in it.

    Raises:
        OSError: it cannot be put there, and nobody else has.
    """
    try:
        fresh.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def built(program: Program) -> Path:
    """Where `make tools` puts a program; the folder carries its version."""
    return cache_folder() / "tools" / f"{program.name}-{program.version}" / program.name


def find(name: str) -> Path:
    """The program to run.

    Raises:
        ProgramMissing: neither the machine nor the cache has it at a fitting version.
    """
    program = BY_NAME[name]
    unfit: list[str] = []
    for path in _on_this_machine(program):
        told = _told_version(path, program)
        if told is not None and program.fits(told):
            return path
        unfit.append(f"{path} is {told or 'silent about its version'}")
    if built(program).is_file():
        return built(program)
    seen = f" ({'; '.join(unfit)}: it does not fit)" if unfit else ""
    raise ProgramMissing(
        f"{name} {program.version} is not on this machine{seen}. In a checkout, `make tools` builds it "
        "from its published source; that needs Go and no root. Everything but `gridplane lab` works "
        "without it."
    )


def find_all(names: Sequence[str]) -> dict[str, Path]:
    """All of several programs.

    Raises:
        ProgramMissing: it names every one that is missing.
    """
    found: dict[str, Path] = {}
    missing: list[str] = []
    for name in names:
        try:
            found[name] = find(name)
        except ProgramMissing as error:
            missing.append(str(error))
    if missing:
        rest = [m.split(" is not", 1)[0] for m in missing[1:]]
        more = f" Also missing: {', '.join(rest)}." if rest else ""
        raise ProgramMissing(missing[0] + more)
    return found


def on_path(found: Mapping[str, Path], path: str) -> str:
    """A PATH on which each program is the one that was found; unchanged where it is already."""
    folders = dict.fromkeys(
        str(place.parent)
        for name, place in found.items()
        if shutil.which(name, path=path) != str(place)
    )
    return os.pathsep.join([*folders, *([path] if path else [])])


def _on_this_machine(program: Program) -> Iterator[Path]:
    if program.ask is None:
        return
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / program.name).is_file():
        yield Path(assets) / program.name
    on_path = shutil.which(program.name)
    if on_path:
        yield Path(on_path)


def _told_version(path: Path, program: Program) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - a program of this machine, asked for its version
            [path, *(program.ask or ())],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout + done.stderr)
    return match.group(0) if match else None
