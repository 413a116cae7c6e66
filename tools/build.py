"""Build the real programs that the lab runs: `make tools`, or `python -m tools.build NAME ...`.

Each is a published Go module, pinned by a wrapper module below `tools/`; the result goes into a versioned
cache outside the repository. A program is built beside its place and renamed into it, so that an
interrupted build leaves nothing half-made; what Go has compiled by then it does not compile again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from control_plane.lab.programs import BY_NAME, PROGRAMS, Program, built

WRAPPERS = Path(__file__).resolve().parent
GO_FLOOR = (1, 26)
GO_PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"])
FREE_BYTES = 8 * 1024**3
"""The Go cache of everything takes about 6 GB, the programs 1.2 GB."""
LANGUAGE_HOST = "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
SHIM_MODULE = "github.com/pulumi/pulumi/sdk/v3"
SHIM = "python/cmd/pulumi-language-python-exec"
PROVIDER_MODULE = "github.com/pulumi/pulumi-kubernetes/provider/v4"
PROVIDER = "cmd/pulumi-resource-kubernetes"
KUEUE_MODULE = "sigs.k8s.io/kueue"


class CannotBuild(Exception):
    """What stands in the way, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make tools", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them where none is named")
    parser.add_argument("--list", action="store_true", help="say what is built, and build nothing")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.names) - BY_NAME.keys())
    if unknown:
        parser.error(f"no such program: {', '.join(unknown)} (there are {', '.join(BY_NAME)})")
    programs = [p for p in PROGRAMS if not asked.names or p.name in asked.names]
    wanted = [p for p in programs if not is_built(p)]
    if asked.list:
        for program in programs:
            state = "to build" if program in wanted else f"built    {built(program)}"
            print(f"{program.name:28} {program.version:10} {state}")
        return 0
    try:
        return build_all(wanted, have=len(programs) - len(wanted))
    except CannotBuild as error:
        print(f"make tools: {error}", file=sys.stderr)
        return 1


def is_built(program: Program) -> bool:
    """Whether the cache has the program as its wrapper pins it now."""
    stamp = built(program).with_name("wrapper.sha256")
    return built(program).is_file() and stamp.is_file() and stamp.read_text() == digest(program)


def digest(program: Program) -> str:
    """Over all that decides what the build makes."""
    found = hashlib.sha256(repr(program).encode())
    for path in sorted((WRAPPERS / program.family).iterdir()):
        if path.is_file():
            found.update(f"\0{path.name}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def build_all(wanted: Sequence[Program], *, have: int) -> int:
    if not wanted:
        return 0
    go = find_go()
    minutes = sum(program.cold_s for program in wanted) / 60
    print(
        f"tools: {len(wanted)} programs to build, {have} there already. Cold, this takes about "
        f"{minutes:.0f} minutes on two cores; interrupt it at any time, it goes on from there.",
        file=sys.stderr,
    )
    folder = built(wanted[0]).parent.parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise CannotBuild(
            f"{folder} has {free / 1e9:.1f} GB free and the builds need {FREE_BYTES / 1e9:.0f}: make room, "
            "or point GRIDPLANE_CACHE and GOCACHE at a larger disk"
        )
    with (folder.parent / "tools.lock").open("w") as lock:
        _wait_for(lock)
        # Nobody else builds now: these are of builds that were killed.
        for left in folder.glob(".*"):
            shutil.rmtree(left)
        for number, program in enumerate(wanted, 1):
            if not is_built(program):
                build(go, program, f"[{number}/{len(wanted)}] {program.name} {program.version}")
    return 0


def _wait_for(lock: IO[str]) -> None:
    """Builds of several checkouts fill one cache, one after another."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("tools: another build is under way; this one waits for it", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)


def find_go() -> str:
    go = shutil.which("go", path=GO_PLACES)
    advice = (
        f"install Go {GO_FLOOR[0]}.{GO_FLOOR[1]} or newer (a package of your system, or the archive of the "
        "Go project) and put it on PATH. Without it `gridplane` works as ever, `make test-fast` and "
        "`make demo` too; only `gridplane lab` and the tests that need it do not"
    )
    if go is None:
        raise CannotBuild(f"there is no Go on this machine: {advice}")
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    digits = told.stdout.strip().removeprefix("go").split("-")[0].split(".")
    if not all(d.isdecimal() for d in digits[:2]) or tuple(map(int, digits[:2])) < GO_FLOOR:
        raise CannotBuild(f"{go} is {told.stdout.strip() or 'of no known version'}: {advice}")
    return go


def environment() -> dict[str, str]:
    """Go as it is pinned: no other toolchain, no C, two compilers at once (2 GB each at the peak)."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -p=2",
    }


def build(go: str, program: Program, label: str) -> None:
    """One program, into its place."""
    place, stamp = built(program).parent, digest(program)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{program.name}-", dir=place.parent) as made:
        wrapper = WRAPPERS / program.family
        if program.name == "pulumi-resource-kubernetes":
            wrapper = _with_schema(go, program, wrapper, Path(made))
        fresh = Path(made) / "place"
        fresh.mkdir()
        _compile(go, program, wrapper, fresh / program.name, label)
        if program.name == "pulumi-language-python":
            _add_language_host(go, program, wrapper, fresh / "host", label)
        if program.name == "kueue":
            # Its definitions, rights and webhooks, as its release installs them.
            _copy(_module_folder(go, wrapper, KUEUE_MODULE) / "config", fresh / "config")
        (fresh / "wrapper.sha256").write_text(stamp)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)


def _compile(go: str, program: Program, wrapper: Path, out: Path, label: str) -> None:
    began = time.monotonic()
    _say(f"{label}: about {program.cold_s} s if nothing of it is compiled yet", end="\n")
    symbols = [f"{name}=v{program.version}" for name in program.version_symbols]
    linker = " ".join(["-s -w", *(f"-X {s}" for s in (*symbols, *program.symbols))])
    command = [go, "build", "-v", "-trimpath", "-ldflags", linker, "-o", str(out)]
    command += ["-tags", ",".join(program.tags)] if program.tags else []
    command.append(program.package)
    last: list[str] = []
    compiled = 0
    with subprocess.Popen(
        command, cwd=wrapper, env=environment(), stderr=subprocess.PIPE, text=True
    ) as going:
        assert going.stderr is not None
        for line in going.stderr:
            last = [*last[-19:], line.rstrip()]
            compiled += not line.startswith("go: ")
            _say(f"{label}: {compiled} packages compiled, {time.monotonic() - began:.0f} s")
    if going.returncode:
        raise CannotBuild(
            f"{program.name} does not build (go exited with {going.returncode}); run it again to go on "
            "from there. Its last words:\n  " + "\n  ".join(last)
        )
    size_mb = out.stat().st_size / 1e6
    _say(f"{label}: built in {time.monotonic() - began:.0f} s, {size_mb:.0f} MB", end="\n")


def _say(text: str, end: str = "") -> None:
    """Progress in place on a terminal; elsewhere only what is final."""
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end=end, file=sys.stderr, flush=True)
    elif end:
        print(text, file=sys.stderr, flush=True)


def _with_schema(go: str, program: Program, wrapper: Path, made: Path) -> Path:
    """The wrapper with what the provider embeds: its module ships it, but without a version."""
    copy = made / "wrapper"
    shutil.copytree(wrapper, copy)
    shipped = _module_folder(go, wrapper, PROVIDER_MODULE) / PROVIDER
    schema = json.loads((shipped / "schema.json").read_bytes())
    (copy / "schema.json").write_text(json.dumps({**schema, "version": program.version}))
    (copy / "mapping.json").write_bytes((shipped / "terraform-mapping.json").read_bytes())
    return copy


def _add_language_host(go: str, program: Program, wrapper: Path, place: Path, label: str) -> None:
    """The host that our command becomes; beside it the executor that it starts, of the engine's release."""
    place.mkdir()
    host = msgspec.structs.replace(program, package=LANGUAGE_HOST)
    _compile(go, host, wrapper, place / program.name, label)
    module = _module_folder(go, WRAPPERS / "pulumi", SHIM_MODULE)
    target = place / Path(SHIM).name
    target.write_bytes((module / SHIM).read_bytes())
    target.chmod(0o755)


def _copy(shipped: Path, to: Path) -> None:
    """A folder of a module; Go keeps it read-only, and ours is to be removed some day."""
    for path in shipped.rglob("*"):
        if path.is_file():
            target = to / path.relative_to(shipped)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def _module_folder(go: str, wrapper: Path, module: str) -> Path:
    """Where Go keeps the pinned source of a module."""
    told = subprocess.run(
        [go, "mod", "download", "-json", module],
        cwd=wrapper, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    answer: Mapping[str, str] = json.loads(told.stdout or "{}")
    if "Dir" not in answer:
        raise CannotBuild(f"{module}: {answer.get('Error') or told.stderr.strip()}")
    return Path(answer["Dir"])


if __name__ == "__main__":
    sys.exit(main())
