"""The images of the lab: what is in them, that they are kept, and what happens when a build breaks off."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from control_plane.lab import images, oci
from control_plane.lab.programs import BY_NAME, ProgramMissing, built
from tests.conftest import ROOT
from tests.lab.test_programs import put

ASKED = {
    "kube-apiserver": "v1.36.3",
    "coredns": "v1.14.2",
    "pause": "3.10.2",
    "etcd": "3.6.8-0",
}


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has programs which only say who they are."""
    monkeypatch.setenv("GRIDPLANE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", "")
    for name in ASKED:
        put(built(BY_NAME[name]), name)
    asked = "\n".join(f"{images.REGISTRY}/{name}:{tag}" for name, tag in ASKED.items())
    put(built(BY_NAME["kubeadm"]), asked)
    return tmp_path


def layer_of(archive: Path) -> dict[str, bytes | None]:
    with tarfile.open(archive) as whole:
        [image] = json.load(whole.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=whole.extractfile(image["Layers"][0])) as layer:
            return {
                member.name: file.read() if (file := layer.extractfile(member)) else None
                for member in layer
            }


def reference_of(archive: Path) -> str:
    with tarfile.open(archive) as whole:
        [image] = json.load(whole.extractfile("manifest.json"))  # type: ignore[arg-type]
        [reference] = image["RepoTags"]
        return str(reference)


def test_kubeadm_finds_each_image_under_the_name_that_it_asks_for() -> None:
    archives = images.control_plane()
    assert [reference_of(archive) for archive in archives] == [
        f"lab.gridplane.dev/{name}:{tag}" for name, tag in ASKED.items()
    ]
    for name, archive in zip(ASKED, archives, strict=True):
        layer = layer_of(archive)
        assert layer[f"usr/local/bin/{name}"] == built(BY_NAME[name]).read_bytes()
        assert "tmp" in layer


def test_a_second_run_builds_nothing() -> None:
    said: list[str] = []
    first = images.control_plane(said.append)
    assert len(said) == len(ASKED)
    assert images.control_plane(said.append) == first
    assert len(said) == len(ASKED)


def test_a_program_that_was_built_anew_gets_a_new_image() -> None:
    before = images.control_plane()
    put(built(BY_NAME["etcd"]), "another etcd")
    after = images.control_plane()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_what_breaks_off_is_no_image_and_the_next_run_makes_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(out: object, *_arguments: object) -> str:
        out.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(oci, "write", full_disk)
        with pytest.raises(images.ImageError, match=r"No space.*GRIDPLANE_CACHE"):
            images.control_plane()
    kept = programs / "cache" / "images"
    assert [path.name for path in kept.iterdir()] == ["kube-apiserver.lock"]
    (kept / "kube-apiserver.part").write_bytes(b"of one that was killed" * 1_000_000)
    assert len([layer_of(archive) for archive in images.control_plane()]) == len(ASKED)
    assert list(kept.glob("*.part")) == []


def test_builders_side_by_side_do_the_work_once() -> None:
    said: list[str] = []
    found: list[object] = []
    runs = [
        threading.Thread(target=lambda: found.append(images.control_plane(said.append)))
        for _ in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(said) == len(ASKED)
    assert found == [found[0]] * 4


def test_archives_that_nobody_used_for_long_go_when_a_new_one_is_made() -> None:
    [*_, old] = images.control_plane()
    put(built(BY_NAME["etcd"]), "another etcd")
    [*_, fresh] = images.control_plane()
    os.utime(old, (1_000_000_000, 1_000_000_000))
    put(built(BY_NAME["etcd"]), "a third etcd")
    images.control_plane()
    assert not old.exists()
    assert fresh.exists()


def test_missing_programs_are_named_all_at_once() -> None:
    built(BY_NAME["etcd"]).unlink()
    built(BY_NAME["coredns"]).unlink()
    with pytest.raises(ProgramMissing, match=r"coredns 1\.14\.2 is not on this machine.*etcd"):
        images.control_plane()


def test_without_root_the_image_of_gridplane_says_what_it_needs_root_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(images.ImageError, match="needs root"):
        images.gridplane(ROOT)
