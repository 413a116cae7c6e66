"""Images by name: from a folder, and from a web server that may hand out anything."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.core.catalogue import Image
from control_plane.engine import images
from control_plane.engine.images import ImageFolder, ImageStore, ImageUnfit

DATA = bytes(range(256)) * 20_000
IMAGE = Image(file="s21.bin", sha256=hashlib.sha256(DATA).hexdigest(), size_bytes=len(DATA))


class _Handler(http.server.BaseHTTPRequestHandler):
    data = DATA
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path != "/images/s21.bin":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(self.data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def a_store(data: bytes = DATA) -> Iterator[tuple[str, list[str]]]:
    """A web server with one image, or what it takes for it; its URL, and what it is asked."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"data": data, "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/images", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def opened(place: ImageFolder | ImageStore, times: int = 1) -> bytes:
    """What the last of so many opens reads."""
    files = await asyncio.gather(*(place.open(IMAGE) for _ in range(times)))
    found = b"".join(files[-1].read(at, 70_000) for at in range(0, len(DATA), 70_000))
    for file in files:
        file.close()
    return found


def read(place: ImageFolder | ImageStore, times: int = 1) -> bytes:
    return asyncio.run(opened(place, times))


def test_a_folder_hands_out_the_image_of_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "s21.bin").write_bytes(DATA)
    assert read(ImageFolder(tmp_path)) == DATA


def test_what_is_replaced_meanwhile_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "s21.bin"
    path.write_bytes(DATA)

    async def main() -> bytes:
        file = await ImageFolder(tmp_path).open(IMAGE)
        path.with_suffix(".new").write_bytes(b"other")
        path.with_suffix(".new").replace(path)
        return file.read(0, 10)

    assert asyncio.run(main()) == DATA[:10]


class Hashes:
    """Counts how often a digest is begun."""

    def __init__(self, patch: pytest.MonkeyPatch, *, settled_s: float) -> None:
        self.begun = 0
        plain = hashlib.sha256

        def counted() -> object:
            self.begun += 1
            return plain()

        patch.setattr(hashlib, "sha256", counted)
        patch.setattr(images, "_SETTLED_NS", int(settled_s * 1e9))


def test_a_thousand_machines_have_an_image_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s21.bin").write_bytes(DATA)
    hashes = Hashes(monkeypatch, settled_s=0)
    folder = ImageFolder(tmp_path)

    async def main() -> None:
        for _ in range(20):
            assert await opened(folder, 50) == DATA

    asyncio.run(main())
    assert hashes.begun == 1


def test_a_store_has_an_image_hashed_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = Hashes(monkeypatch, settled_s=0)
    with a_store() as (url, asked):

        async def main() -> None:
            store = ImageStore(url, tmp_path)
            assert await opened(store, 50) == DATA
            assert (len(asked), hashes.begun) == (1, 1)
            _written_over(tmp_path / "s21.bin", DATA[::-1])
            assert await opened(store, 50) == DATA, "brought anew"
            assert len(asked) == 2

        asyncio.run(main())


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_an_image_that_changes_under_its_name_and_its_times_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "s21.bin"
    path.write_bytes(DATA)
    Hashes(monkeypatch, settled_s=0)
    folder = ImageFolder(tmp_path)
    assert read(folder, times=3) == DATA
    if how == "replaced":
        was = path.stat()
        path.with_suffix(".new").write_bytes(DATA[::-1])
        os.utime(path.with_suffix(".new"), ns=(was.st_atime_ns, was.st_mtime_ns))
        path.with_suffix(".new").replace(path)
    else:
        _written_over(path, DATA[::-1])
    with pytest.raises(ImageUnfit, match="has the SHA-256"):
        read(folder)
    _written_over(path, DATA)
    assert read(folder) == DATA


def test_an_image_that_may_still_be_written_is_hashed_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s21.bin").write_bytes(DATA)
    hashes = Hashes(monkeypatch, settled_s=3_600)
    folder = ImageFolder(tmp_path)
    for opened in (1, 2):
        assert read(folder) == DATA
        assert hashes.begun == opened


def _written_over(path: Path, data: bytes) -> None:
    """Other bytes in the same file, with the size and the time that it had; past the clock's last tick."""
    was = path.stat()
    while path.stat().st_ctime_ns == was.st_ctime_ns:
        with path.open("r+b") as file:
            file.write(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "No such file"),
        (DATA[:-1], "has 5,119,999 bytes"),
        (DATA[:-1] + b"x", "has the SHA-256"),
    ],
)
def test_a_folder_with_another_one_says_so(tmp_path: Path, data: bytes | None, said: str) -> None:
    if data is not None:
        (tmp_path / "s21.bin").write_bytes(data)
    with pytest.raises(ImageUnfit, match=said):
        read(ImageFolder(tmp_path))


def test_a_store_is_asked_once_for_all_machines(tmp_path: Path) -> None:
    with a_store() as (url, asked):
        assert read(ImageStore(url, tmp_path / "cache"), times=5) == DATA
        assert read(ImageStore(url, tmp_path / "cache")) == DATA
        assert asked == ["/images/s21.bin"]


@pytest.mark.parametrize(
    ("data", "said"),
    [(DATA[:1000], "1,000 bytes"), (DATA[::-1], "has the SHA-256")],
    ids=["cut short", "another"],
)
def test_a_store_with_another_one_is_found_out(tmp_path: Path, data: bytes, said: str) -> None:
    with a_store(data) as (url, _), pytest.raises(ImageUnfit, match=said):
        read(ImageStore(url, tmp_path))


def test_a_store_without_it_or_nobody_there_is_said(tmp_path: Path) -> None:
    with a_store() as (url, _), pytest.raises(ImageUnfit, match="404"):
        read(ImageStore(f"{url}/elsewhere", tmp_path))
    with pytest.raises(ImageUnfit, match="refused"):
        read(ImageStore("http://127.0.0.1:9/images", tmp_path))
