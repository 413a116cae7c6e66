"""Tokens and cipher of WhatsMiner's write API, against recorded values and the documented limits."""

from __future__ import annotations

import pytest

from control_plane.simulator.whatsminer_crypto import (
    MAX_CLIENTS,
    MAX_TOKENS_PER_CLIENT,
    TOKEN_LIFE_S,
    Challenge,
    Credentials,
    TokenState,
    TokenTable,
    crypt_tail,
)

ADMIN = Credentials.of("admin", "BQ5hoXV9")


def sign_of(challenge: Challenge, key: str) -> str:
    return crypt_tail(key + challenge.time, challenge.newsalt)


def test_key_of_the_factory_password_is_the_one_recorded_on_a_real_device() -> None:
    assert Credentials(salt="BQ5hoXV9", key="RxmaDUO33TS7O26yeMHZ81") == ADMIN


@pytest.mark.parametrize("text", [b"", b"{}", b'{"cmd":"set_low_power","token":"x"}', b"a" * 64])
def test_what_is_encrypted_comes_back(text: bytes) -> None:
    assert ADMIN.decrypt(ADMIN.encrypt(text).decode()) == text


def test_line_breaks_of_a_mime_encoder_are_taken() -> None:
    broken = ADMIN.encrypt(b'{"cmd":"reboot"}').decode() + "\n"
    assert ADMIN.decrypt(broken) == b'{"cmd":"reboot"}'


@pytest.mark.parametrize("text", ["%%%", "YWJj"], ids=["not base64", "not whole blocks"])
def test_text_that_cannot_be_a_ciphertext_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ADMIN.decrypt(text)


def test_another_password_decrypts_to_rubbish() -> None:
    other = Credentials.of("other", ADMIN.salt)
    assert other.decrypt(ADMIN.encrypt(b'{"cmd":"reboot"}').decode()) != b'{"cmd":"reboot"}'


def test_challenge_carries_the_last_four_digits_of_unix_time() -> None:
    challenge = TokenTable("a").issue(ADMIN, "10.0.0.1", unix_s=1678185039, wire_s=0.0)
    assert challenge is not None
    assert (challenge.time, challenge.salt, len(challenge.newsalt)) == (
        "5039",
        "BQ5hoXV9",
        8,
    )


@pytest.mark.parametrize(
    ("peer", "at_s", "want"),
    [
        ("10.0.0.1", 0.0, TokenState.VALID),
        ("10.0.0.1", TOKEN_LIFE_S - 1, TokenState.VALID),
        ("10.0.0.1", TOKEN_LIFE_S, TokenState.EXPIRED),
        ("10.0.0.2", 0.0, TokenState.UNKNOWN),
    ],
)
def test_token_lives_thirty_minutes_for_the_address_that_asked(
    peer: str, at_s: float, want: TokenState
) -> None:
    table = TokenTable("a")
    challenge = table.issue(ADMIN, "10.0.0.1", unix_s=1, wire_s=0.0)
    assert challenge is not None
    assert table.check(sign_of(challenge, ADMIN.key), peer, wire_s=at_s) is want


def test_each_address_gets_thirty_two_tokens_and_a_free_slot_after_they_expire() -> None:
    table = TokenTable("a")
    given = [
        table.issue(ADMIN, "10.0.0.1", unix_s=n, wire_s=0.0)
        for n in range(MAX_TOKENS_PER_CLIENT + 1)
    ]
    assert [c is not None for c in given] == [True] * MAX_TOKENS_PER_CLIENT + [False]
    assert table.issue(ADMIN, "10.0.0.2", unix_s=0, wire_s=0.0) is not None
    assert table.issue(ADMIN, "10.0.0.1", unix_s=0, wire_s=TOKEN_LIFE_S) is not None


def test_a_seventeenth_address_gets_none() -> None:
    table = TokenTable("a")
    given = [
        table.issue(ADMIN, f"10.0.0.{n}", unix_s=0, wire_s=0.0) for n in range(MAX_CLIENTS + 1)
    ]
    assert [c is not None for c in given] == [True] * MAX_CLIENTS + [False]


def test_a_reboot_forgets_all_tokens() -> None:
    table = TokenTable("a")
    challenge = table.issue(ADMIN, "10.0.0.1", unix_s=0, wire_s=0.0)
    assert challenge is not None
    table.clear()
    assert table.check(sign_of(challenge, ADMIN.key), "10.0.0.1", wire_s=0.0) is TokenState.UNKNOWN
