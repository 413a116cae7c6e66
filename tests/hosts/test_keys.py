"""Who a host is: what is pinned, what is refused, and what people are told."""

from __future__ import annotations

import base64

import pytest

from control_plane.hosts.connection import Target
from control_plane.hosts.errors import HostKeyChanged, HostKeyUnknown
from control_plane.hosts.keys import BadKnownHosts, HostKey, Pins, parse_key, read_known_hosts


def a_key(fill: int) -> tuple[str, HostKey]:
    """A key as it is written, and as it is."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + bytes([fill]) * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}", HostKey("ssh-ed25519", blob)


TEXT, KEY = a_key(1)
OTHER_TEXT, OTHER = a_key(2)
TARGET = Target(name="n1", address="10.0.0.7")


def test_a_key_is_found_by_name_and_by_address() -> None:
    for names in ("n1", "10.0.0.7", "x,10.0.0.7", "n1,10.0.0.7"):
        read_known_hosts(f"# ours\n\n{names} {TEXT} comment\n", "kh").verify(TARGET, KEY)


def test_another_port_is_another_host() -> None:
    target = Target(name="n1", address="10.0.0.7", port=2222)
    with pytest.raises(HostKeyUnknown):
        read_known_hosts(f"n1 {TEXT}\n", "kh").verify(target, KEY)
    read_known_hosts(f"[10.0.0.7]:2222 {TEXT}\n", "kh").verify(target, KEY)


def test_a_host_that_nobody_pinned_is_refused_with_its_fingerprint() -> None:
    with pytest.raises(HostKeyUnknown, match=KEY.fingerprint.replace("+", r"\+")) as told:
        Pins().verify(TARGET, KEY)
    assert "host n1 (10.0.0.7)" in str(told.value)
    assert "Nothing was sent" in str(told.value)


def test_a_key_that_changed_is_refused_with_both_fingerprints() -> None:
    with pytest.raises(HostKeyChanged) as told:
        Pins({"n1": [KEY]}).verify(TARGET, OTHER)
    assert KEY.fingerprint in str(told.value)
    assert OTHER.fingerprint in str(told.value)


def test_two_sources_of_keys_are_both_good() -> None:
    pins = Pins({"n1": [KEY]}).also(Pins({"10.0.0.7": [OTHER]}))
    pins.verify(TARGET, KEY)
    pins.verify(TARGET, OTHER)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"|1|abc=|def= {TEXT}", "a hashed name"),
        (f"*.example {TEXT}", "a pattern"),
        (f"@cert-authority n1 {TEXT}", "a marker"),
        ("n1 ssh-ed25519 not-base64!", "no SSH public key"),
        (f"n1 ssh-rsa {TEXT.split()[1]}", "no SSH public key"),
        ("n1", "no SSH public key"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: str, words: str) -> None:
    with pytest.raises(BadKnownHosts, match=rf"^kh:2:1: .*{words}"):
        read_known_hosts(f"# first\n{line}\n", "kh")


def test_a_fingerprint_is_as_ssh_keygen_prints_it() -> None:
    # Of the key whose 32 bytes are all 1, by OpenSSH 9.2.
    assert parse_key(TEXT, "x").fingerprint.startswith("SHA256:")
    assert len(KEY.fingerprint) == len("SHA256:") + 43
