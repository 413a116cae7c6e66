"""Who may write to a VNish: bearer tokens from `/unlock`, and API keys that a person created.

Codes: 403 for a wrong password, 429 after too many, 401 without a session (swagger document). How many
and how long is ours. `Authorization` may be the bare token (pyasic) or `Bearer <token>` (asic-rs);
below `/system` only the second (pyasic).
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.simulator.machine import seed_of

TOKEN_LIFE_S = 3_600.0
"""Wire seconds without a request after which a session ends."""
MAX_SESSIONS = 16
"""The oldest makes room."""
MAX_FAILURES = 5
LOCKOUT_S = 60.0
"""Wire seconds in which so many wrong passwords close the door, and for how long."""
KEY_CHARS = 32
_BEARER = "bearer "


class Sessions:
    """Live tokens and stored keys of one unit. Tokens die with a boot; keys stay."""

    __slots__ = ("_failures", "_issued", "_name", "_seen", "keys")

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: dict[str, float] = {}
        self._failures: list[float] = []
        self._issued = 0
        self.keys: dict[str, str] = {}
        """API key → what it is for."""

    def unlock(self, given: object, password: str, *, wire_s: float) -> tuple[int, str]:
        """Status and, with 200, a token."""
        self._failures = [at for at in self._failures if wire_s - at < LOCKOUT_S]
        if len(self._failures) >= MAX_FAILURES:
            return 429, ""
        if given != password:
            self._failures.append(wire_s)
            return 403, ""
        if len(self._seen) >= MAX_SESSIONS:
            del self._seen[min(self._seen, key=self._seen.__getitem__)]
        self._issued += 1
        token = f"{seed_of(f'{self._name}/token/{self._issued}'):016x}" * 2
        self._seen[token] = wire_s
        return 200, token

    def allows(self, headers: Mapping[str, str], path: str, *, wire_s: float) -> bool:
        """Whether a request carries a live token or a stored key; a token lives on by being used."""
        if headers.get("x-api-key") in self.keys:
            return True
        given = headers.get("authorization", "")
        is_bearer = given.lower().startswith(_BEARER)
        if not is_bearer and path.startswith("system/"):
            return False
        token = given[len(_BEARER) :].strip() if is_bearer else given
        seen = self._seen.get(token)
        if seen is None or wire_s - seen > TOKEN_LIFE_S:
            self._seen.pop(token, None)
            return False
        self._seen[token] = wire_s
        return True

    def end(self, *, but: str = "") -> None:
        """All sessions end, but one where it is named."""
        kept = self._seen.get(but)
        self._seen.clear()
        if kept is not None:
            self._seen[but] = kept
