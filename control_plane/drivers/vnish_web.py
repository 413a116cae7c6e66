"""The API of VNish as one user: HTTP on port 80 below `/api/v1`, opened by a token or an API key.

`POST /unlock` turns the password into a token, which lives until it is not used for a while or the
device boots. Tokens are kept by asset, so that a look unlocks nothing that is open already: a device
that is unlocked every ten seconds runs out of sessions. A declared user named `x-api-key` has an API
key for a password; then nothing is unlocked at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core.errors import AuthRejected, UnexpectedReply, Unreachable
from control_plane.drivers.driver import decode_reply
from control_plane.drivers.http import Form, HttpLine
from control_plane.drivers.http_framing import Page

if TYPE_CHECKING:
    from control_plane.core.ports import Net, Target

PORT: Final = 80
API_KEY_USER: Final = "x-api-key"
_API: Final = "/api/v1/"
_OK, _UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 200, 401, 403, 429
_JSON: Final = ("Content-Type", "application/json")


class Tokens:
    """Tokens by asset, shared by all sessions of a driver; each is taken by one of them at a time."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def get(self, asset: str) -> str | None:
        """The token, where there is one; whether it lives is found out by using it."""
        return self._known.get(asset)

    def put(self, asset: str, token: str) -> None:
        """Keep a token."""
        self._known[asset] = token

    def drop(self, asset: str, token: str | None) -> None:
        """Forget a token that was refused, unless there is another by now."""
        if token is not None and self._known.get(asset) == token:
            del self._known[asset]

    def taking(self, asset: str) -> asyncio.Lock:
        """Held by the one that takes a token for this asset; the others wait."""
        return self._locks.setdefault(asset, asyncio.Lock())


class ApiSession:
    """Requests to one device within one call of the driver. Close it."""

    def __init__(self, net: Net, target: Target, tokens: Tokens) -> None:
        self._line = HttpLine(net, target.address, PORT)
        self._target = target
        self._tokens = tokens
        self._used: str | None = None
        """The token that the last request carried."""

    async def get(self, name: str) -> bytes:
        """The body of a page, unlocking where the device asks for that.

        Raises:
            Unreachable: no complete answer in time, or it takes no more passwords for a while.
            AuthRejected: the credentials were refused.
            UnexpectedReply: not HTTP, or another status than 200.
            OversizedReply: more than the cap.
        """
        page = await self._line.read(_API + name, self._headers)
        if page.status == _UNAUTHORIZED:
            await self.unlock()
            page = await self._line.read(_API + name, self._headers)
            if page.status == _UNAUTHORIZED:
                raise AuthRejected(f"{self._target.address}: refuses what it gave for the password")
        if page.status != _OK:
            raise UnexpectedReply(f"{self._target.address} {name}: status {page.status}")
        return page.body

    async def unlock(self) -> None:
        """Have another token than the one that was used last.

        Raises: as `get`.
        """
        target, used = self._target, self._used
        if target.user == API_KEY_USER:
            raise AuthRejected(f"{target.address}: refuses the API key")
        async with self._tokens.taking(target.asset):
            if self._tokens.get(target.asset) not in {None, used}:
                return  # Another look took one meanwhile.
            self._tokens.drop(target.asset, used)
            body = msgspec.json.encode({"pw": target.password.reveal()})
            page = await self._line.ask("POST", f"{_API}unlock", self._headers(body), body)
            self._tokens.put(target.asset, self._token_of(page))

    def _token_of(self, page: Page) -> str:
        address = self._target.address
        if page.status in {_FORBIDDEN, _UNAUTHORIZED}:
            raise AuthRejected(f"{address}: refuses the password")
        if page.status == _TOO_MANY:
            raise Unreachable(f"{address}: takes no passwords for a while", retry_after_s=60.0)
        if page.status != _OK:
            raise UnexpectedReply(f"{address} unlock: status {page.status}")
        token = decode_reply(page.body, f"{address} unlock", private=True).get("token")
        if not isinstance(token, str) or not token:
            raise UnexpectedReply(f"{address} unlock: no token")
        return token

    async def log_in(self) -> None:
        """Log in, whatever is open already.

        Raises: as `get`.
        """
        if self._target.user == API_KEY_USER:
            await self.get("settings")
        else:
            await self.unlock()

    async def prepare_write(self) -> None:
        """Be connected, so that nothing is awaited between a permit and the bytes.

        The connection over which the identity came stays, where the device keeps it.

        Raises:
            Unreachable: refused or silent. Nothing was written.
        """
        await self._line.open()

    async def post(self, name: str, body: bytes, *, deadline_s: float) -> Page:
        """Send what changes something: once. Any status is returned.

        Raises: as `get`; whatever it is, the request may have arrived.
        """
        page = await self._line.ask(
            "POST", _API + name, self._headers(body, writes=True), body, deadline_s=deadline_s
        )
        if page.status == _UNAUTHORIZED:
            self._tokens.drop(self._target.asset, self._used)
        return page

    async def upload(self, name: str, form: Form, *, deadline_s: float) -> Page:
        """POST a form, as `post` does; `deadline_s` are wire seconds from its last byte to the answer.

        Raises: as `post`.
        """
        headers = [
            *self._headers(),
            ("Content-Type", form.content_type),
            ("Content-Length", str(form.size_bytes)),
        ]
        path = _API + name
        return await self._line.ask("POST", path, headers, deadline_s=deadline_s, form=form)

    def close(self) -> None:
        """Close the connection; the token stays."""
        self._line.close()

    def _headers(self, body: bytes = b"", *, writes: bool = False) -> list[tuple[str, str]]:
        headers = [("Host", self._target.address), ("Accept", "*/*")]
        if self._target.user == API_KEY_USER:
            headers.append((API_KEY_USER, self._target.password.reveal()))
        else:
            self._used = self._tokens.get(self._target.asset)
            if self._used is not None:
                headers.append(("Authorization", f"Bearer {self._used}"))
        if body:
            headers.append(_JSON)
        if body or writes:
            headers.append(("Content-Length", str(len(body))))
        return headers
