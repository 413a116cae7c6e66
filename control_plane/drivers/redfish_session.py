"""One BMC as one user: a TLS connection, a session (DSP0266 §13.3), and the rules that keep it alive.

The token is kept between calls and used again; a password leaves only where there is none, or where the BMC
says that it lapsed. After the first refusal no password leaves until the credential is another one.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from control_plane.core import limits
from control_plane.core.bmc_quirks import is_factory_login
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    UnexpectedReply,
    Unreachable,
)
from control_plane.drivers.driver import Reply, clean, decode_reply, rows, text_of
from control_plane.drivers.http import HttpLine

if TYPE_CHECKING:
    from control_plane.core.ports import BmcTarget, Clock, Net
    from control_plane.drivers.http_framing import Page

ROOT: Final = "/redfish/v1/"
SESSIONS: Final = "/redfish/v1/SessionService/Sessions"
_TOKEN: Final = "X-Auth-Token"  # noqa: S105 — the name of a header
_PATH: Final = re.compile(r"/redfish/v1(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*(?:\?[\x21-\x7e]*)?")
_PATH_CHARS: Final = 512
_MESSAGES: Final = 4
_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_MOVED: Final = frozenset({301, 302, 307, 308})
_ABSENT: Final = frozenset({404, 405, 410, 501})
_BUSY: Final = frozenset({429, 503})
UNAUTHORIZED: Final = 401
_REFUSES_LOGIN: Final = frozenset({400, 401, 403})


class NoSuchResource(UnexpectedReply):
    """The BMC has nothing at a path: another firmware, or a part that this host has not."""


class Seat:
    """Everything kept of one BMC between calls. Whoever uses it holds `lock`: one command at a time."""

    def __init__(self, net: Net, clock: Clock, target: BmcTarget) -> None:
        """`target` is the one to begin with; `take` tells of another one."""
        self.lock = asyncio.Lock()
        self._net, self._clock = net, clock
        self._target = target
        self._line = self._new_line(target)
        self._login: tuple[str, str] | None = None
        """The header of every request: a session's token, or the password where there are none."""
        self._session: str | None = None
        self._is_proven = False
        """Whether that header was ever taken: if not, its refusal is no lapse."""
        self._used_s = 0.0
        self._refused = False

    @property
    def target(self) -> BmcTarget:
        """Where and as whom."""
        return self._target

    def take(self, target: BmcTarget) -> bool:
        """Go on with a target; whether it is another BMC than before.

        Another credential starts anew, and so does a person's word that the same one may be tried again.
        """
        old, self._target = self._target, target
        moved = (old.address, old.port, old.tls) != (target.address, target.port, target.tls)
        if moved:
            self._line.close()
            self._line = self._new_line(target)
        before = (old.user, old.password, old.tries)
        if moved or before != (target.user, target.password, target.tries):
            self._login = self._session = None
            self._refused = False
        return moved

    # -- reads -----------------------------------------------------------------------------------

    async def get(self, path: str) -> Reply:
        """The resource at a path; its ETag is under `@odata.etag`.

        Raises:
            Unreachable: no complete answer in time, or the BMC is busy.
            AuthRejected: as the port `Bmc`.
            WrongIdentity: another certificate than the pinned one.
            NoSuchResource: nothing there.
            UnexpectedReply, OversizedReply: not what Redfish answers, or too much of it.
        """
        page = await self.get_page(path)
        if page.status in _MOVED:
            # iLO wants a slash at the end, and says so.
            path = path_of(page.headers.get("location"), self._target.address) or path
            page = await self.get_page(path)
        if page.status != _OK:
            raise self._trouble(page, path)
        reply = decode_reply(page.body, f"{self._target.address}{path}")
        if "etag" in page.headers:
            reply["@odata.etag"] = page.headers["etag"]
        return reply

    async def get_page(self, path: str) -> Page:
        """Whatever answers at a path, behind a login.

        Raises: as `get`, but for what the status says.
        """
        await self._be_logged_in()
        may_lapse = self._is_proven and self._login is not None and self._login[0] == _TOKEN
        page = await self._read(path)
        if page.status == UNAUTHORIZED and may_lapse:
            # The session lapsed: that is no refused password, and the first one since.
            self._login = self._session = None
            await self._be_logged_in()
            page = await self._read(path)
        if page.status == UNAUTHORIZED:
            self._refuse("refuses the session that it gave")
        self._is_proven, self._used_s = True, self._clock.wire_s()
        return page

    # -- writes ----------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Be connected, so that nothing is awaited between a permit and the first byte.

        Raises:
            Unreachable, WrongIdentity, UnexpectedReply: nothing was sent.
        """
        await self._line.open()

    async def send(self, method: str, path: str, body: Reply, *, etag: str | None = None) -> Page:
        """Send what changes something: once, on the connection that is ready. Any status is returned.

        Raises:
            Unreachable, UnexpectedReply, OversizedReply: it may have arrived.
            AuthRejected: it was refused for its session, and not done.
        """
        headers = self._headers() + ([("If-Match", etag)] if etag is not None else [])
        data = msgspec.json.encode(body)
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        page = await self._line.ask(
            method, path, headers, data, deadline_s=limits.BMC_REPLY_DEADLINE_S
        )
        if page.status == UNAUTHORIZED:
            self._refuse("refuses the session")
        self._used_s = self._clock.wire_s()
        return page

    async def log_out(self) -> None:
        """End the session, as far as the BMC answers.

        Raises: nothing of the error tree.
        """
        session = self._session
        try:
            if session is not None:
                await self._line.ask(
                    "DELETE",
                    session,
                    [*self._headers(), ("Content-Length", "0")],
                    deadline_s=limits.REPLY_DEADLINE_S,
                )
        except ControlPlaneError:
            pass  # It ends by itself when nobody uses it.
        finally:
            self._login = self._session = None
            self._line.close()

    # -- logins ----------------------------------------------------------------------------------

    async def _be_logged_in(self) -> None:
        target = self._target
        if target.tls is None:
            raise UnexpectedReply(f"{target.address}: no certificate is pinned: nothing is sent")
        idle_s = self._clock.wire_s() - self._used_s
        if self._login is not None and (not self._is_proven or idle_s < limits.BMC_SESSION_IDLE_S):
            return
        self._login = self._session = None
        if is_factory_login(target.user, target.password):
            raise AuthRejected(
                f"{target.address}: the credential is its maker's default, which everybody has: set another"
            )
        if self._refused or target.is_refused:
            raise AuthRejected(
                f"{target.address}: refused user {target.user} before; not tried again until the "
                f"credential is another one"
            )
        await self._log_in()

    async def _log_in(self) -> None:
        target = self._target
        path = await self._sessions_path()
        password = target.password.reveal()
        self._is_proven = False
        if path is None:
            both = f"{target.user}:{password}".encode()
            self._login = "Authorization", f"Basic {base64.b64encode(both).decode()}"
            return
        body = msgspec.json.encode({"UserName": target.user, "Password": password})
        headers = [
            *self._headers(),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ]
        page = await self._line.ask(
            "POST", path, headers, body, deadline_s=limits.BMC_REPLY_DEADLINE_S
        )
        if page.status in _REFUSES_LOGIN:
            self._refuse(f"refuses user {target.user}")
        token = page.headers.get("x-auth-token", "")
        if page.status in _BUSY:
            raise Unreachable(f"{target.address}: takes no login now ({page.status})")
        if page.status not in {_OK, _CREATED} or not token:
            raise UnexpectedReply(f"{target.address}{path}: no session, status {page.status}")
        self._login = _TOKEN, token
        self._session = path_of(page.headers.get("location"), target.address)

    async def _sessions_path(self) -> str | None:
        """Where sessions are made: the service root, which everybody may read, says so (DSP0266 §13.3.4).

        `None`: it has none, and wants the password with every request.
        """
        page = await self._read(ROOT)
        if page.status in _BUSY:
            raise Unreachable(f"{self._target.address}: busy ({page.status})")
        if page.status != _OK:
            raise UnexpectedReply(f"{self._target.address}{ROOT}: status {page.status}")
        root = decode_reply(page.body, f"{self._target.address}{ROOT}")
        told = link(root.get("Links"), "Sessions", self._target.address)
        return told or (SESSIONS if "SessionService" in root else None)

    def _refuse(self, what: str) -> None:
        self._login = self._session = None
        self._refused = True
        raise AuthRejected(f"{self._target.address}: {what}")

    # ----------------------------------------------------------------------------------------------

    async def _read(self, path: str) -> Page:
        return await self._line.read(path, self._headers, deadline_s=limits.BMC_REPLY_DEADLINE_S)

    def _headers(self) -> list[tuple[str, str]]:
        headers = [
            ("Host", self._target.address),
            ("Accept", "application/json"),
            ("OData-Version", "4.0"),
        ]
        if self._login is not None:
            headers.append(self._login)
        return headers

    def _trouble(self, page: Page, path: str) -> ControlPlaneError:
        where = f"{self._target.address}{path}: status {page.status}"
        if page.status in _ABSENT:
            return NoSuchResource(where)
        if page.status in _BUSY:
            return Unreachable(f"{where}: busy")
        return UnexpectedReply(f"{where} {message_of(page.body)}".rstrip())

    def _new_line(self, target: BmcTarget) -> HttpLine:
        return HttpLine(
            self._net,
            target.address,
            target.port,
            tls=target.tls,
            connect_s=limits.BMC_CONNECT_DEADLINE_S,
            max_bytes=limits.BMC_REPLY_MAX_BYTES,
        )


# -- links -------------------------------------------------------------------------------------------


def path_of(value: object, address: str) -> str | None:
    """A path of this very BMC from a link or a `Location`; `None` for anything that leads elsewhere."""
    if not isinstance(value, str) or len(value) > _PATH_CHARS:
        return None
    value = value.partition("#")[0]
    if "://" in value[:10]:
        try:
            parts = urlsplit(value)
            if parts.hostname != address:
                return None
        except ValueError:
            return None
        value = parts.path + (f"?{parts.query}" if parts.query else "")
    if not _PATH.fullmatch(value) or "/../" in f"{value}/" or "//" in value:
        return None
    return value


def link(value: object, name: str, address: str) -> str | None:
    """The path in a member that is `{"@odata.id": path}`, or a list whose first is."""
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, list):
        found = found[0] if found else None
    return path_of(found.get("@odata.id"), address) if isinstance(found, dict) else None


def members(collection: Reply, address: str) -> list[tuple[str, Reply]]:
    """Path and, where the collection was expanded, body of its members; at most `BMC_MEMBERS_MAX`."""
    found = []
    for row in rows(collection.get("Members"))[: limits.BMC_MEMBERS_MAX]:
        path = path_of(row.get("@odata.id"), address)
        if path is not None:
            found.append((path, row))
    return found


def message_of(body: bytes) -> str:
    """What a BMC says to a request that it refuses: its own words (`@Message.ExtendedInfo`), bounded."""
    try:
        error = decode_reply(body, "").get("error")
    except UnexpectedReply:
        return ""
    if not isinstance(error, dict):
        return ""
    info = rows(error.get("@Message.ExtendedInfo"))[:_MESSAGES]
    told = [text for row in info if (text := text_of(row.get("Message"))) is not None]
    return clean(" ".join(told), 400) or text_of(error.get("message")) or ""
