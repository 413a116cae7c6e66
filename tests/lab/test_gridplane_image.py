"""The images that are made of Debian trees: what is in them runs, and nothing of this machine is in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from control_plane.lab import images, oci, wheels
from control_plane.lab.programs import BY_NAME, built, cache_folder
from tests.conftest import ROOT
from tests.lab.test_programs import put
from tools.check_locks import read_lock

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def image() -> tuple[str, Path]:
    return images.gridplane(ROOT)


@pytest.fixture(scope="module")
def unpacked(image: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a container of it has as its root."""
    return unpack(image[1], tmp_path_factory.mktemp("image"))


def unpack(archive: Path, into: Path) -> Path:
    with tarfile.open(archive) as whole:
        [described] = json.loads(member(whole, "manifest.json"))
        layer = whole.extractfile(described["Layers"][0])
        with tarfile.open(fileobj=layer) as files:
            files.extractall(into, filter="fully_trusted")  # noqa: S202 - ours, with its owners
    into.chmod(0o755)
    return into


def config(archive: Path) -> dict[str, object]:
    with tarfile.open(archive) as whole:
        [described] = json.loads(member(whole, "manifest.json"))
        found: dict[str, object] = json.loads(member(whole, described["Config"]))["config"]
        return found


def member(whole: tarfile.TarFile, name: str) -> bytes:
    file = whole.extractfile(name)
    assert file is not None
    return file.read()


def inside(root: Path, *command: str, user: str = "65532:65532") -> str:
    """What a command prints in a container's root, as a container's user, in a network of its own."""
    done = subprocess.run(
        [  # noqa: S607 - of this system
            "unshare", "--net", "chroot", f"--userspec={user}", root, "env", "-i",
            "PATH=/opt/gridplane/bin:/usr/sbin:/usr/bin", *command,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_entry_point_runs_as_nobody_special(image: tuple[str, Path], unpacked: Path) -> None:
    settings = config(image[1])
    assert settings["Entrypoint"] == ["gridplane"]
    assert settings["User"] == "65532:65532"
    assert settings["WorkingDir"] == "/var/lib/gridplane"
    assert re.search(r"gridplane +0\.1\.0", inside(unpacked, "gridplane", "version"))


def test_it_has_what_the_lock_says_and_nothing_else(unpacked: Path) -> None:
    said = inside(
        unpacked, "/opt/gridplane/bin/python", "-c",
        "from importlib.metadata import distributions as d\n"
        "for one in d(): print(one.name.lower().replace('_', '-'), one.version)",
    )  # fmt: skip
    found = dict(line.split() for line in said.splitlines())
    assert found.pop("gridplane") == "0.1.0"
    pins, _ = read_lock((ROOT / "requirements" / "runtime.txt").read_text())
    assert found == {str(name): str(version) for name, version in pins.items()}


def test_everything_is_compiled_and_trusted_by_its_name(unpacked: Path) -> None:
    modules = list((unpacked / "opt/gridplane/lib/python3.11/site-packages").rglob("*.py"))
    assert len(modules) > 400
    for module in modules:
        compiled = module.parent / "__pycache__" / f"{module.stem}.cpython-311.pyc"
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 1, f"{compiled} would be compared with the time of its source"


def test_nothing_of_this_machine_is_in_it(unpacked: Path) -> None:
    words = [str(place).encode() for place in (ROOT, cache_folder())]
    for path in unpacked.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [word for word in words if word in content], path
    assert (unpacked / "etc/machine-id").read_bytes() == b""
    for gone in ("etc/apt/sources.list", "etc/resolv.conf", "etc/hostname", "wheels"):
        assert not (unpacked / gone).exists()
    for folder in ("var/log", "var/cache", "var/lib/apt/lists", "usr/share/doc/python3", "tmp"):
        assert list((unpacked / folder).glob("*")) == []


def test_the_same_sources_elsewhere_make_the_same_bytes(
    image: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "another" / "checkout"
    for name, path in (*wheels.sources(ROOT), *kept("Containerfile", "requirements/runtime.txt")):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, elsewhere / name)
    another_cache(tmp_path / "cache", monkeypatch)
    killed = tmp_path / "cache" / "images" / ".work-of-a-killed-builder"
    (killed / "root").mkdir(parents=True)
    os.utime(killed, (0, 0))
    reference, archive = images.gridplane(elsewhere)
    assert reference == image[0]
    assert oci.digest(archive) == oci.digest(image[1])
    assert archive.read_bytes() == image[1].read_bytes()
    assert [path.name for path in archive.parent.iterdir() if path.suffix != ".tar"] == [
        "gridplane.lock"
    ]
    (elsewhere / "control_plane" / "__init__.py").write_text('__version__ = "0.2.0"\n')
    assert images.reference(elsewhere) != reference


def kept(*names: str) -> list[tuple[str, Path]]:
    return [(name, ROOT / name) for name in names]


def another_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has no image yet, but the Debian trees and wheels of this machine."""
    cache.mkdir()
    for name in ("debian", "wheels"):
        (cache_folder() / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(cache_folder() / name)
    monkeypatch.setenv("GRIDPLANE_CACHE", str(cache))


def test_kube_proxy_finds_the_tools_that_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_cache(tmp_path / "cache", monkeypatch)
    put(built(BY_NAME["kube-proxy"]), "Kubernetes v1.36.3")
    put(built(BY_NAME["kubeadm"]), f"{images.REGISTRY}/kube-proxy:v1.36.3")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    [archive] = images.control_plane()
    (tmp_path / "root").mkdir()
    root = unpack(archive, tmp_path / "root")
    assert inside(root, "/usr/local/bin/kube-proxy") == "Kubernetes v1.36.3\n"
    rule = "iptables -t nat -A POSTROUTING -m comment --comment ours -j MASQUERADE --random-fully"
    assert "ours" in inside(root, "sh", "-ec", f"{rule}; iptables-save -t nat", user="0:0")
    assert "masquerade" in inside(root, "sh", "-ec", f"{rule}; nft list ruleset", user="0:0")
    assert "conntrack v" in inside(root, "conntrack", "--version", user="0:0")
