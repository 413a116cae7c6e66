"""A simulated miner with LuxOS: luxminer's API on TCP 4028, as an Antminer's owner put it there.

Wire (Luxor documentation, "Introduction"): one JSON object per connection, `command` and `parameter`,
which is always text with commas in it; the device answers and closes. Commands without a parameter may
be joined with `+`; the reply then has one member for each, a list of one. The reply ends in NUL (the
luxos package cuts there, pyasic and others strip it).

Not simulated: the text form of requests, the HTTP API on 8080, the web page, SSH; a unit that refuses
connections that follow each other too fast (one field note on LUXminer 2026.4.3).
"""

from __future__ import annotations

import msgspec

from control_plane.simulator import luxos_reads as reads
from control_plane.simulator import luxos_settings as settings
from control_plane.simulator import luxos_writes as writes
from control_plane.simulator.json_in import object_in
from control_plane.simulator.luxos_profiles import Profile, profiles_of, step_of
from control_plane.simulator.luxos_unit import Atm, Build, Network, Pool, Unit, build_of
from control_plane.simulator.machine import Machine, Sample
from control_plane.simulator.wire import Reply

PORT = 4028
IDLE_S = 30.0
"""Ours."""
MAX_REQUEST = 8192
"""Bytes; ours. cgminer's own buffer has this size."""

_encode = msgspec.json.Encoder().encode


class LuxOs:
    """One simulated unit, as a network sees it."""

    __slots__ = ("unit",)

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...] = (),
        network: Network | None = None,
        build: Build | None = None,
        atm: Atm | None = None,
        autosave: bool = True,
    ) -> None:
        """A unit at the profile that `machine.step` names; at its default for another word.

        Args:
            machine: its physics and identity; a password guards nothing here.
            pools: by priority, all in the first group.
            network: what it tells of its own address.
            build: its firmware; drawn by the asset's name where not given.
            atm: its own controller; off where not given.
            autosave: False: what is set is forgotten at the next boot.
        """
        step = step_of(machine.step.name) or 0
        self.unit = Unit(
            machine,
            pools=pools,
            network=network or Network(),
            build=build or build_of(machine),
            step=step if step in profiles_of(machine.model, machine.seed) else 0,
            atm=atm or Atm(),
            autosave=autosave,
        )

    @property
    def machine(self) -> Machine:
        """The physics behind it."""
        return self.unit.machine

    @property
    def profile(self) -> Profile:
        """The profile in force."""
        return self.unit.profile

    def accept(self, port: int, peer: str) -> Session | None:
        """A session on 4028 while luxminer listens."""
        if port != PORT or not self.machine.answers():
            return None
        if self.unit.is_restarting(self.unit.sample()):
            return None
        return Session(self.unit, peer)

    def reachable(self) -> bool:
        """False without power, and where the hardware is dead."""
        return not (self.machine.is_off or self.machine.is_dead)


class Session:
    """One connection: one request."""

    __slots__ = ("_buffer", "_done", "_peer", "_unit")

    def __init__(self, unit: Unit, peer: str) -> None:
        self._unit = unit
        self._peer = peer
        self._buffer = b""
        self._done = False

    def idle_limit_s(self) -> float | None:
        """Half a minute."""
        return IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer as soon as the bytes are a whole JSON object."""
        if self._done:
            return ()
        machine = self._unit.machine
        if not machine.answers():
            return (Reply(reset=True),)
        machine.world.peer = self._peer
        self._buffer += data
        request = object_in(self._buffer.rstrip(b"\0"))
        if request is None and _may_go_on(self._buffer):
            return ()
        self._done = True
        self._buffer = b""
        text = self._status("E", 23, "Invalid JSON") if request is None else self._answer(request)
        if text is None:
            return (Reply(reset=True),)
        return (Reply(data=_encode({**text, "id": 1}) + b"\0", close=True),)

    def _answer(self, request: dict[str, object]) -> reads.Body | None:
        sample = self._unit.sample()
        name, parameter = request.get("command"), request.get("parameter", "")
        if not isinstance(name, str) or not name:
            return self._status("E", 24, "Missing JSON 'command'")
        values = _values(parameter)
        if "+" not in name:
            return self._one(name, values, sample)
        # Joined only without parameters, and only what reads.
        return {
            part: [{**self._read(part, sample), "id": 1}]
            for part in dict.fromkeys(name.split("+")[:64])
            if part
        }

    def _read(self, name: str, sample: Sample) -> reads.Body:
        if name in settings.READS:
            return self._success(settings.READS[name](self._unit, sample))
        return self._status("E", 14, "Invalid command")

    def _one(self, name: str, values: tuple[str, ...], sample: Sample) -> reads.Body | None:
        unit = self._unit
        if name in settings.READS:
            return self._read(name, sample)
        if name in settings.BOARD_READS:
            board = int(values[0]) if values and values[0].isdecimal() else -1
            if not 0 <= board < unit.machine.model.boards:
                return self._status("E", 400, "Missing parameter: board")
            return self._success(settings.BOARD_READS[name](unit, sample, board))
        if name in {"logon", "logoff", "kill"}:
            return self._session(name, values)
        if name in writes.OPEN:
            return self._told(writes.OPEN[name](unit, name, values))
        if name not in writes.PRIVILEGED:
            return self._status("E", 14, "Invalid command")
        return self._privileged(name, values)

    def _session(self, name: str, values: tuple[str, ...]) -> reads.Body:
        """Codes and texts are documented, but for a session that is not the living one."""
        unit = self._unit
        if name == "logon":
            made = unit.logon()
            if made is None:
                return self._status("E", 402, "Another session is active")
            body = {"SESSION": [{"SessionID": made}]}
            return self._success(reads.Answer(316, "Session created", body))
        if name == "kill":
            unit.end_session()
            return self._status("S", 318, "Session terminated")
        if not unit.uses(values[0] if values else ""):
            return self._status("E", 401, "Invalid session")
        unit.end_session()
        return self._status("S", 318, "Session terminated")

    def _privileged(self, name: str, values: tuple[str, ...]) -> reads.Body | None:
        unit = self._unit
        if not values or not values[0]:
            writes.note(unit, name, "", honoured=False)
            return self._status("E", 400, "Missing parameter: session")  # Documented.
        session, *rest = values
        if not unit.uses(session):
            writes.note(unit, name, ",".join(rest), honoured=False)
            return self._status("E", 401, "Invalid session")
        return self._told(writes.PRIVILEGED[name](unit, name, rest))

    # -- envelopes -------------------------------------------------------------------------------

    def _told(self, outcome: writes.Outcome) -> reads.Body | None:
        if outcome is None:
            return None
        if isinstance(outcome, writes.Refusal):
            return self._status("E", outcome.code, outcome.message)
        return self._success(outcome)

    def _success(self, answer: reads.Answer) -> reads.Body:
        return {**answer.sections, **self._status("S", answer.code, answer.message)}

    def _status(self, letter: str, code: int, message: str) -> reads.Body:
        row = {
            "Code": code,
            "Description": f"LUXminer {self._unit.build.name}",
            "Msg": message,
            "STATUS": letter,
            "When": int(self._unit.unix_s()),
        }
        return {"STATUS": [row]}


def _values(parameter: object) -> tuple[str, ...]:
    """A parameter is text with commas; numbers are taken as they come."""
    if isinstance(parameter, bool) or not isinstance(parameter, str | int | float):
        return ()
    text = str(parameter)
    return tuple(value.strip() for value in text.split(",")) if text else ()


def _may_go_on(text: bytes) -> bool:
    """Whether more bytes could still make an object of them."""
    text = text.strip(b"\0 \r\n\t")
    if len(text) > MAX_REQUEST:
        return False
    return not text or (text.startswith(b"{") and not text.endswith(b"}"))
