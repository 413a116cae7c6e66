"""The catalogue of firmware and its store: what is put in, what is refused, what is found."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.inventory.check_firmware import SIGNED
from tests.cli.workshop import GRIDPLANE
from tests.engine.test_images import a_store

DATA = b"\x1f\x8b" + bytes(range(256)) * 400
NEW = (
    *("--family", "antminer_stock", "--version", "Mon Dec 30 10:00:00 CST 2024"),
    *("--type", "antminer-s21", "--no-roll-back", "--keeps-warranty"),
)
RELEASE = Path("inventory/firmware/s21.yaml")
PLACE = re.compile(r"inventory/firmware/[\w.-]+:\d+:\d+: ")

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A verb in a new repository: exit code, stdout and stderr."""
    assert home.is_dir()

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(("firmware", *arguments))
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def an_image(name: str = "s21.bin", data: bytes = DATA) -> str:
    folder = Path("from-the-maker")
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return str(folder / name)


def add(ask: Ask, *arguments: str) -> tuple[int, str, str]:
    return ask("add", *arguments, "--images", "store")


def everything() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for root in (Path("inventory"), Path("store"))
        for path in root.rglob("*")
        if path.is_file()
    }


def states(ask: Ask, place: str = "store") -> dict[str, str]:
    _, out, _ = ask("verify", "--images", place, "-o", "json")
    return {row["file"]: row["state"] for row in json.loads(out)}


def test_an_image_comes_into_catalogue_and_store(ask: Ask) -> None:
    code, out, _ = add(ask, an_image(), *NEW, "--release", "s21", "-o", "json")
    assert code == Exit.OK
    done = json.loads(out)
    assert done["is_new"]
    assert done["is_written"]
    assert done["path"] == str(RELEASE)
    (image,) = done["images"]
    assert image["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert (image["size_bytes"], image["packed_as"], image["is_stored"]) == (
        len(DATA),
        "gzip",
        True,
    )
    assert Path("store/s21.bin").read_bytes() == DATA
    assert sorted(p.name for p in Path("store").iterdir()) == ["s21.bin"]
    assert main(["validate"]) == Exit.OK
    assert ask("verify", "--images", "store")[0] == Exit.OK
    _, listed, _ = ask("list", "-o", "json")
    assert [row["where"] for row in json.loads(listed)] == [f"{RELEASE}:6:5"]
    schema = RELEASE.read_text().splitlines()[0].partition("$schema=")[2]
    assert (RELEASE.parent / schema).is_file()


def test_a_release_is_named_for_what_it_is_and_found_again(ask: Ask) -> None:
    code, out, _ = add(ask, an_image(), *NEW, "--control-board", "CVITEK", "-o", "name")
    assert (code, out.strip()) == (Exit.OK, "antminer-stock-mon-dec-30-10-00-00-cst-2024")
    more = an_image("aml.bmu", DATA + b"2")
    code, out, _ = add(ask, more, *NEW[:4], "--control-board", "AMLCtrl", "-o", "json")
    assert code == Exit.OK
    assert json.loads(out)["is_new"] is False
    assert states(ask) == {"s21.bin": "ok", "aml.bmu": "ok"}


def test_images_of_several_boards_come_at_once(ask: Ask) -> None:
    one, other = an_image("one.bmu"), an_image("other.bmu", DATA + b"2")
    boards = ("--control-board", "one.bmu=CVITEK", "--control-board", "other.bmu=AMLCtrl")
    assert add(ask, one, other, *NEW, *boards)[0] == Exit.OK
    assert states(ask) == {"one.bmu": "ok", "other.bmu": "ok"}


def test_what_stands_keeps_its_comments(ask: Ask) -> None:
    add(ask, an_image(), *NEW, "--release", "s21", "--control-board", "CVITEK")
    text = RELEASE.read_text()
    RELEASE.write_text(text.replace("    size_bytes", "    # measured\n    size_bytes") + "# end\n")
    more = an_image("aml.bmu", DATA + b"2")
    assert add(ask, more, "--release", "s21", "--control-board", "AMLCtrl")[0] == Exit.OK
    after = RELEASE.read_text()
    assert "    # measured\n" in after
    assert after.endswith("# end\n")
    assert main(["validate"]) == Exit.OK


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "the image again": (("from-the-maker/s21.bin", *NEW), Exit.REFUSED, "in the catalogue already"),
    "the image by another name": (
        ("from-the-maker/same.bmu", *NEW), Exit.REFUSED, "in the catalogue already, as s21.bin",
    ),
    "another one of that name": (
        ("elsewhere/s21.bin", *NEW), Exit.REFUSED, "the catalogue has another s21.bin",
    ),
    "another family than the release": (
        ("from-the-maker/new.bmu", "--release", "s21", "--family", "luxos"),
        Exit.REFUSED, "family antminer_stock, not luxos",
    ),
    "a type that it was not approved for": (
        ("from-the-maker/new.bmu", "--release", "s21", "--type", "antminer-s19"),
        Exit.REFUSED, "approved for antminer-s21, not for antminer-s19",
    ),
    "two images for one machine": (
        ("from-the-maker/new.bmu", "--release", "s21"), Exit.INVALID, "E0712",
    ),
    "a family that the type does not have": (
        ("from-the-maker/new.bmu", "--family", "whatsminer_v2", "--version", "1", *NEW[4:]),
        Exit.INVALID, "E0705",
    ),
    "an unknown type": (
        ("from-the-maker/new.bmu", *NEW[:4], "--type", "antminer-s22", *NEW[6:]),
        Exit.INVALID, "E0303",
    ),
    "a web page": (("from-the-maker/page.bmu", *NEW), Exit.REFUSED, "is no firmware image"),
    "a new release half said": (
        ("from-the-maker/new.bmu", "--family", "antminer_stock", "--version", "2"),
        Exit.USAGE, "say --type, --rolls-back or",
    ),
    "no release at all": (("from-the-maker/new.bmu",), Exit.USAGE, "say which release"),
    "a board of another image": (
        ("from-the-maker/new.bmu", *NEW, "--control-board", "old.bmu=X"), Exit.USAGE, "old.bmu",
    ),
    "another one in the store": (
        ("from-the-maker/there.bmu", "--family", "antminer_stock", "--version", "3", *NEW[4:]),
        Exit.REFUSED, "lies there already, with another SHA-256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_written_where_something_is_refused(ask: Ask, name: str) -> None:
    add(ask, an_image(), *NEW, "--release", "s21")
    an_image("same.bmu")
    an_image("new.bmu", DATA + b"3")
    an_image("there.bmu", DATA + b"4")
    an_image("page.bmu", b"<!doctype html>")
    Path("elsewhere").mkdir()
    Path("elsewhere/s21.bin").write_bytes(DATA + b"5")
    Path("store/there.bmu").write_bytes(DATA)
    before = everything()
    arguments, want, said = REFUSED[name]
    code, out, err = add(ask, *arguments)
    assert (code, said in err) == (want, True), err
    assert not out
    assert everything() == before
    if want in {Exit.INVALID, Exit.REFUSED} and "page" not in name and "store" not in name:
        assert PLACE.search(err), err


def test_a_dry_run_checks_and_writes_nothing(ask: Ask) -> None:
    before = everything()
    code, out, _ = add(ask, an_image(), *NEW, "--dry-run")
    assert code == Exit.OK
    assert "would be made" in out
    assert everything() == before


def test_an_image_that_lies_in_the_store_is_left_there(ask: Ask) -> None:
    Path("store").mkdir()
    Path("store/s21.bin").write_bytes(DATA)
    node = Path("store/s21.bin").stat().st_ino
    code, out, _ = add(ask, "store/s21.bin", *NEW, "-o", "json")
    assert code == Exit.OK
    assert json.loads(out)["images"][0]["is_stored"] is False
    assert Path("store/s21.bin").stat().st_ino == node


def test_where_the_catalogue_cannot_be_written_nothing_comes_into_the_store(ask: Ask) -> None:
    Path("inventory/firmware").write_text("in the way")
    code, _, err = add(ask, an_image(), *NEW, "--release", "s21")
    assert code == Exit.REFUSED
    assert "inventory/firmware" in err
    assert not Path("store").exists()


def damaged(name: str) -> None:
    path = Path("store") / name
    match name:
        case "missing.bmu":
            path.unlink()
        case "truncated.bmu":
            path.write_bytes(path.read_bytes()[:-1])
        case "long.bmu":
            path.write_bytes(path.read_bytes() + b"x")
        case "other.bmu":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        case "unreadable.bmu":
            path.unlink()
            path.mkdir()
        case _:
            pass


def test_verify_tells_each_kind_of_damage(ask: Ask) -> None:
    want = {
        "good.bmu": "ok",
        "missing.bmu": "missing",
        "truncated.bmu": "truncated",
        "long.bmu": "too_long",
        "other.bmu": "wrong_digest",
        "unreadable.bmu": "unreadable",
    }
    for number, name in enumerate(want):
        version = ("--family", "antminer_stock", "--version", f"{number}")
        assert add(ask, an_image(name, DATA + name.encode()), *version, *NEW[4:])[0] == Exit.OK
        damaged(name)
    Path("store/old.bmu").write_bytes(b"old")
    assert states(ask) == {**want, "old.bmu": "superfluous"}
    code, out, _ = ask("verify", "--images", "store")
    assert code == Exit.REFUSED
    assert "6 images: 5 not as the catalogue says" in out
    assert "only the machine itself checks" in out
    _, names, _ = ask("verify", "--images", "store", "-o", "name")
    assert set(names.split()) == {*want, "old.bmu"} - {"good.bmu"}


def test_a_superfluous_file_alone_is_no_failure(ask: Ask) -> None:
    add(ask, an_image(), *NEW)
    Path("store/old.bmu").write_bytes(b"old")
    code, out, _ = ask("verify", "--images", "store")
    assert code == Exit.OK
    assert "superfluous" in out


@pytest.mark.parametrize(
    ("served", "state"),
    [(None, "ok"), (-1, "truncated"), (b"x", "too_long"), (b"\0", "wrong_digest")],
)
def test_a_web_server_is_held_against_the_catalogue(
    ask: Ask, served: int | bytes | None, state: str
) -> None:
    add(ask, an_image(), *NEW)
    data: Any = {None: DATA, -1: DATA[:-1], b"x": DATA + b"x", b"\0": DATA[:-1] + b"\0"}[served]
    with a_store(data) as (url, _):
        assert states(ask, url) == {"s21.bin": state}


def test_a_web_server_without_it_or_nobody_there_is_told_apart(ask: Ask) -> None:
    add(ask, an_image(), *NEW)
    with a_store() as (url, _):
        assert states(ask, f"{url}/elsewhere") == {"s21.bin": "missing"}
    assert states(ask, "http://127.0.0.1:9/images") == {"s21.bin": "unreadable"}


def test_the_stores_of_the_sites_are_looked_at_by_themselves(ask: Ask) -> None:
    add(ask, an_image(), *NEW)
    code, _, err = ask("verify")
    assert code == Exit.USAGE
    assert "--images PLACE" in err
    site = Path("inventory/sites/first-site/site.yaml")
    with a_store(DATA) as (url, _):
        site.write_text(f"{site.read_text()}firmware_store: {url}\n")
        code, out, _ = ask("verify", "-o", "json")
    assert code == Exit.OK, out
    assert [(row["state"], row["store"]) for row in json.loads(out)] == [("ok", url)]


def test_an_unsigned_image_is_refused_where_keys_are_declared_and_a_signed_one_told(
    ask: Ask,
) -> None:
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    fleet = Path("inventory/fleet.yaml")
    fleet.write_text(f"{fleet.read_text()}firmware_keys: {{release: {public.decode()}}}\n")
    image = an_image()
    code, _, err = add(ask, image, *NEW)
    assert (code, "E0713" in err) == (Exit.INVALID, True)
    assert not Path("store").exists()
    digest = hashlib.sha256(DATA).hexdigest()
    signed = base64.b64encode(key.sign(SIGNED + digest.encode())).decode()
    assert add(ask, image, *NEW, "--signed-by", "release", "--signature", signed)[0] == Exit.OK
    _, out, _ = ask("verify", "--images", "store", "-o", "json")
    assert [row["signed_by"] for row in json.loads(out)] == ["release"]


def test_long_work_tells_how_far_it_is(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.cli.firmware._QUIET_BELOW", 0)
    big = an_image(data=DATA * 30)
    _, _, err = add(ask, big, *NEW)
    assert "images, MiB: " in err
    _, _, err = ask("verify", "--images", "store")
    assert re.search(r"images, MiB: \d+ of 2 \(", err), err


def test_two_who_add_at_once_both_stand(ask: Ask) -> None:
    add(ask, an_image(), *NEW, "--release", "s21", "--control-board", "b0")
    names = [f"b{number}.bin" for number in range(1, 5)]
    for name in names:
        an_image(name, DATA + name.encode())
    running = [
        subprocess.Popen(
            [*GRIDPLANE, "firmware", "add", f"from-the-maker/{name}", "--images", "store",
             "--release", "s21", "--control-board", name],
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]  # fmt: skip
    assert [process.wait(60) for process in running] == [Exit.OK] * len(names)
    assert states(ask) == dict.fromkeys(["s21.bin", *names], "ok")
