"""An image archive is the same to the byte wherever it is written, and holds what it was given."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from control_plane.lab import oci

NAME = "lab.gridplane.dev/thing:v1"
CONFIG = oci.Config(entrypoint=("/bin/thing",), user="65532:65532")


def archive(entries: dict[str, oci.Entry], config: oci.Config = CONFIG) -> tuple[bytes, str]:
    out = io.BytesIO()
    digest = oci.write(out, NAME, config, entries)
    return out.getvalue(), digest


def opened(content: bytes) -> tuple[dict[str, Any], tarfile.TarFile]:
    """(what docker and containerd read first, the layer)."""
    whole = tarfile.open(fileobj=io.BytesIO(content))  # noqa: SIM115 - memory: nothing to close
    blobs = {member.name: whole.extractfile(member) for member in whole}
    for name, blob in blobs.items():
        if name.startswith("blobs/"):
            assert blob is not None
            assert hashlib.sha256(blob.read()).hexdigest() == name.rpartition("/")[2]
            blob.seek(0)
    index = json.load(blobs["index.json"] or io.BytesIO())
    manifest = json.load(of(whole, index["manifests"][0]))
    config = json.load(of(whole, manifest["config"]))
    layer = tarfile.open(fileobj=of(whole, manifest["layers"][0]))  # noqa: SIM115 - the same
    docker = json.load(blobs["manifest.json"] or io.BytesIO())
    return {"index": index, "manifest": manifest, "config": config, "docker": docker}, layer


def of(whole: tarfile.TarFile, descriptor: dict[str, Any]) -> io.BufferedReader:
    member = whole.getmember("blobs/" + descriptor["digest"].replace(":", "/"))
    assert member.size == descriptor["size"]
    blob = whole.extractfile(member)
    assert isinstance(blob, io.BufferedReader)
    return blob


def a_tree(root: Path, *, reverse: bool) -> Path:
    """The same content, made in one order or the other, at another time."""
    files = {"etc/b": "b", "etc/a": "a", "usr/bin/tool": "#!", "usr/x" * 40: "long"}
    for path, text in sorted(files.items(), reverse=reverse):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        os.utime(root / path, (1_700_000_000 + reverse, 1_700_000_000 + reverse))
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/again").hardlink_to(root / "usr/bin/tool")
    return root


def test_two_machines_write_the_same_bytes(tmp_path: Path) -> None:
    one = archive(oci.tree(a_tree(tmp_path / "one", reverse=False)))
    two = archive(oci.tree(a_tree(tmp_path / "elsewhere" / "two", reverse=True)))
    assert one == two


def test_another_content_has_another_digest() -> None:
    digests = {
        archive({"a": oci.file(b"1")})[1],
        archive({"a": oci.file(b"2")})[1],
        archive({"a": oci.file(b"1", 0o755)})[1],
        archive({"b": oci.file(b"1")})[1],
        archive({"a": oci.file(b"1")}, oci.Config(entrypoint=("/a",)))[1],
    }
    assert len(digests) == 5


def test_it_carries_the_name_for_every_reader_and_how_to_run_it() -> None:
    content, digest = archive({"bin/thing": oci.file(b"x", 0o755)})
    read, layer = opened(content)
    entry = read["index"]["manifests"][0]
    assert entry["digest"] == digest
    assert set(entry["annotations"].values()) == {NAME}
    assert read["docker"][0]["RepoTags"] == [NAME]
    assert read["docker"][0]["Layers"] == [
        "blobs/" + read["manifest"]["layers"][0]["digest"].replace(":", "/")
    ]
    assert read["config"]["rootfs"]["diff_ids"] == [read["manifest"]["layers"][0]["digest"]]
    assert read["config"]["config"]["Entrypoint"] == ["/bin/thing"]
    assert read["config"]["config"]["User"] == "65532:65532"
    assert layer.getnames() == ["bin", "bin/thing"]


def test_a_tree_keeps_modes_links_and_owners_and_leaves_out_what_it_is_told(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "root", reverse=False)
    os.mkfifo(root / "etc" / "pipe")
    _, layer = opened(archive(oci.tree(root, lambda path: path == "etc/b"))[0])
    members = {member.name: member for member in layer}
    assert members["usr/bin/again"].mode == 0o4755
    assert members["usr/bin/tool"].islnk()
    assert members["usr/bin/tool"].linkname == "usr/bin/again"
    assert members["bin"].issym()
    assert members["bin"].linkname == "usr/bin"
    assert members["etc/a"].uid == os.getuid()
    assert "etc/b" not in members
    assert "etc/pipe" not in members
    assert {member.mtime for member in layer} == {oci.TIME_S}
    assert {(member.uname, member.gname) for member in layer} == {("", "")}


def test_nothing_is_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 * 1024**2)
    with (tmp_path / "archive").open("wb") as out:
        tracemalloc.start()
        oci.write(out, NAME, CONFIG, {"large": oci.file(large)})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 1024**2


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archive({"gone": oci.file(tmp_path / "gone")})
