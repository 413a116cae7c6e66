"""Token and cipher of WhatsMiner writes, against published vectors and the simulated device's own half."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.errors import UnexpectedReply
from control_plane.core.secret import Secret
from control_plane.drivers.whatsminer_crypto import Seal, crypt_tail
from control_plane.simulator.whatsminer_crypto import Credentials
from control_plane.simulator.whatsminer_crypto import crypt_tail as device_tail

CHALLENGE = {"time": "5626", "salt": "BQ5hoXV9", "newsalt": "jbzkfQls"}


@pytest.mark.parametrize(
    ("secret", "salt", "tail"),
    [
        # Recorded by several clients from devices with the factory password.
        ("admin", "BQ5hoXV9", "RxmaDUO33TS7O26yeMHZ81"),
        # The example in passlib's documentation of md5_crypt.
        ("password", "5pZSV9va", "azfrPr6af3Fc7dLblQXVa0"),
    ],
)
def test_md5_crypt_gives_the_published_tails(secret: str, salt: str, tail: str) -> None:
    assert crypt_tail(secret, salt) == tail


@given(password=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8))
def test_the_device_reads_what_the_client_seals(password: str) -> None:
    seal = Seal(Secret(password), CHALLENGE, "test")
    device = Credentials.of(password, CHALLENGE["salt"])
    sent = msgspec.json.decode(seal.close("power_off", {"respbefore": "true"}))
    assert sent["enc"] == 1
    assert msgspec.json.decode(device.decrypt(sent["data"])) == {
        "cmd": "power_off",
        "token": device_tail(device.key + CHALLENGE["time"], CHALLENGE["newsalt"]),
        "respbefore": "true",
    }
    answer = msgspec.json.encode({"Code": 131, "Msg": "API command OK"})
    sealed = msgspec.json.encode({"enc": device.encrypt(answer).decode()})
    assert seal.open(sealed, "test") == {"Code": 131, "Msg": "API command OK"}


def test_an_early_refusal_in_the_clear_is_read_too() -> None:
    seal = Seal(Secret("admin"), CHALLENGE, "test")
    assert seal.open(b'{"Code":45,"Msg":"can\'t access write cmd"}\0', "test")["Code"] == 45


@pytest.mark.parametrize(
    "sealed",
    [
        "%%%",
        "AAAA",
        base64.b64encode(bytes(32)).decode(),
        Credentials.of("other", "BQ5hoXV9").encrypt(b'{"Code":131}').decode(),
        "",
        "ü",
    ],
    ids=["not base64", "half a block", "zeros", "another key", "empty", "not ascii"],
)
def test_what_cannot_be_opened_is_no_answer(sealed: str) -> None:
    seal = Seal(Secret("admin"), CHALLENGE, "test")
    with pytest.raises(UnexpectedReply):
        seal.open(msgspec.json.encode({"enc": sealed}), "test")


@pytest.mark.parametrize(
    "challenge",
    [
        {},
        {**CHALLENGE, "salt": ""},
        {**CHALLENGE, "salt": "too long for md5"},
        {**CHALLENGE, "salt": "a$b"},
        {**CHALLENGE, "newsalt": 7},
        {**CHALLENGE, "newsalt": "ü"},
        {**CHALLENGE, "time": "\0"},
    ],
)
def test_an_odd_challenge_is_refused_without_a_word_of_the_password(
    challenge: dict[str, object],
) -> None:
    with pytest.raises(UnexpectedReply) as raised:
        Seal(Secret("s3cret"), challenge, "test")
    assert "s3cret" not in repr(raised.value)
    assert raised.value.__suppress_context__
