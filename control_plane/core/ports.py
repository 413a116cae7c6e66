"""The only ways in which gridplane touches time, chance, the network and secrets.

Adapters to the real thing stand at the edges (`engine`, `drivers`, `cli`), in-memory twins in
`simulator`; one conformance suite holds the two together. Three times are told apart:

* *wire* time (connect, reply, slow accept, token life) is never scaled;
* *device* time (boot, ramp, re-tune) and *policy* time (soak, grace, gates) are scaled by one and
  the same factor, which is 1 outside simulations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from control_plane.core.memory import Pin
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from control_plane.core.bmc import BmcChange, BmcSeen, Part, Sent, TaskSeen
    from control_plane.core.catalogue import Facts, Image
    from control_plane.core.change import Capabilities, Change, Outcome
    from control_plane.core.fleet import StaticNetwork
    from control_plane.core.gpu import NodeSeen
    from control_plane.core.gpu_settings import GpuOutcome, GpuWrite
    from control_plane.core.meter import Meter, Reading
    from control_plane.core.observation import Depth, Identity, Observation


class Clock(Protocol):
    """Time. `wall_s` and `sleep` are policy time; the `wire_` ones are not scaled."""

    def wall_s(self) -> float:
        """Seconds since the epoch, in policy time (equal to real time at scale 1)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep policy seconds."""
        ...

    def wire_s(self) -> float:
        """A monotonic reading in wire seconds: differences only."""
        ...

    async def wire_sleep(self, seconds: float) -> None:
        """Sleep wire seconds."""
        ...

    def wire_of(self, policy_s: float) -> float:
        """How many wire seconds a stretch of policy time takes."""
        ...


class Rng(Protocol):
    """Chance, for jitter only: no decision depends on it."""

    def uniform(self, a: float, b: float) -> float:
        """A number in [a, b]."""
        ...


class Connection(Protocol):
    """One TCP connection to one device. Not for concurrent use."""

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send `payload`, collect bytes until `complete(buffer, eof)` holds, and return them.

        Args:
            payload: sent as it is; may be empty.
            complete: called after each piece and once at end of stream (`eof` true).
            deadline_s: wire seconds for the whole exchange.
            max_bytes: a longer reply is dropped.

        Raises:
            Unreachable: reset, closed before complete, or the deadline passed.
            OversizedReply: more than `max_bytes`.
        """
        ...

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        """Send what is too large to hold at once; the reply is asked for by a `request` with nothing to send.

        Args:
            pieces: one is taken when the one before it has left.
            deadline_s: wire seconds for all of them.

        Raises:
            Unreachable: reset, closed, or the deadline passed; some of it may have arrived.
        """
        ...

    def close(self) -> None:
        """Close at once; safe to call twice."""
        ...


class Net(Protocol):
    """TCP towards devices, by their declared addresses."""

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        """Open a connection, within wire seconds; with a pin, a TLS one, and nothing else leaves before.

        Raises:
            Unreachable: refused, no route, or the deadline passed.
            WrongIdentity: another certificate than the pinned one; nothing was sent.
            UnexpectedReply: no TLS there, or none of version 1.2 and later.
        """
        ...


class Secrets(Protocol):
    """Where secret references lead."""

    def resolve(self, ref: str) -> Secret:
        """The secret behind `env:NAME` or `file:PATH`.

        Raises:
            DeclarationError: no such scheme, or nothing there; the operator acts.
        """
        ...


class Target(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where and as whom a driver finds one device. Built by the engine for each call."""

    asset: str
    address: str
    """The declared or located IP address; ports are the family's own."""
    user: str
    password: Secret
    pin: Pin | None = None
    """The machine that is this asset; `apply` writes to no other one, and without a pin to none."""
    write_enabled: bool | None = None
    """What earlier looks told of its write interface; a driver that learned otherwise itself says that."""


class Permit(Protocol):
    """Whether a write may still leave: what was true when it was decided may not be true any more."""

    def __call__(self) -> str | None:
        """Why nothing more may be sent, in words; `None` where it may. Never waits."""
        ...


class ImageFile(Protocol):
    """The bytes of one firmware image. Whoever hands it out has held them against its digest."""

    @property
    def image(self) -> Image:
        """Which one."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end."""
        ...


class Installer(Protocol):
    """What a driver can do beside, where `capabilities.firmware` says so.

    It decides nothing: whether an image fits is told by `facts` and the catalogue, and whoever calls has a
    grant, a journal, and the power.
    """

    async def facts(self, target: Target) -> tuple[Identity, Facts]:
        """Who answers, and what decides which image it may be given.

        Raises: as `Driver.observe`.
        """
        ...

    async def install(self, target: Target, file: ImageFile, permit: Permit) -> Outcome:
        """Send an image, once; settings stay where the family keeps them.

        Identity and permit as for `Driver.apply`, right before the first byte. `Applied`: the device found it
        good, and writes it. `InProgress`: it has left, whole or in part, and its fate is unknown: look, and
        never send it again. `RefusedByDevice`: it was sent, found bad, and nothing was written.

        Raises: nothing of the error tree.
        """
        ...

    async def roll_back(self, target: Target, permit: Permit) -> Outcome:
        """Boot what ran before the last install; only where `can_roll_back`.

        Raises: nothing of the error tree.
        """
        ...


class PasswordKeeper(Protocol):
    """What a driver can do beside, where `capabilities.passwords` says so.

    It decides nothing: whoever calls has a journal in which it stands that the change may have left.
    """

    async def log_in(self, target: Target) -> Identity:
        """Who answers, after a login with the target's password over a fresh connection.

        Nothing that an earlier login left (a token, a session) is used, and nothing is changed.

        Raises:
            AuthRejected: that password is refused.
            Unreachable: nobody answered in time, or no password is taken for a while.
            UnexpectedReply, OversizedReply: the answer says neither yes nor no.
        """
        ...

    async def set_password(self, target: Target, new: Secret, permit: Permit) -> Outcome:
        """Have `new` in place of the target's password; at most once, without a second try.

        Identity and permit as for `Driver.apply`. `Applied`: the device said so. `InProgress`: it has left
        and its fate is unknown. `Failed`, `RefusedByDevice`: the old one is still in force.

        Raises: nothing of the error tree.
        """
        ...


class Readdresser(Protocol):
    """What a driver can do beside, where `capabilities.network` says so.

    It decides nothing: whoever calls has a journal in which it stands that the change may have left.
    """

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        """Have the device stand at a static address; at most once, without a second try.

        The host name and whatever else the family keeps beside stay as they are. Identity and permit as for
        `Driver.apply`; where the family has to be told to boot for it, that is a command of the same write.
        `Applied`: the device said so. `InProgress`: it has left, whole or in part, and its fate is unknown;
        who moves at once may not answer any more. `Failed`, `RefusedByDevice`: it stands where it stood.

        Raises: nothing of the error tree.
        """
        ...


class BmcTarget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where and as whom one BMC is found, and how it is known."""

    asset: str
    """The host that it belongs to."""
    address: str
    user: str
    password: Secret
    tls: TlsPin | None
    """`None`: nothing is sent, not even a question."""
    pin: Pin | None = None
    """The host behind it, by serial; `apply` writes to no other one, and without a pin to none."""
    port: int = 443
    is_refused: bool = False
    """This very credential was refused before, as whoever calls remembers: it is not sent again.

    A driver remembers it too, as long as it lives; a process that is started anew every minute would lock
    the account out all the same.
    """
    tries: int = 0
    """How often a person said that a refused credential may be sent again: a driver that remembers one
    forgets it when this grows."""


class Bmc(Protocol):
    """The way to hosts whatever state they are in: one instance for all BMCs.

    One command at a time to each BMC; sessions are kept between calls. After the first refused password
    none is sent again until the credential is another one: BMCs lock out.
    """

    async def identify(self, target: BmcTarget) -> Identity:
        """Which host is behind it, by the cheapest read that tells its serial.

        Raises: as `look`.
        """
        ...

    async def look(self, target: BmcTarget, parts: frozenset[Part]) -> BmcSeen:
        """One look. What cannot be read or understood is `None`, and named in `unread`.

        Raises:
            Unreachable: nobody answered in time. It says nothing of the host: it is not "off".
            AuthRejected: the credential is refused, was refused before, or is its maker's default.
            WrongIdentity: another certificate than the pinned one.
            UnexpectedReply: no Redfish service answers, or it tells no system; or no TLS pin was given.
            OversizedReply: an answer passed the cap.
        """
        ...

    async def apply(self, target: BmcTarget, change: BmcChange, permit: Permit) -> Sent:
        """Send one change, at most once. Never retries a write, never waits for its effect.

        Identity and permit as for `Driver.apply`, right before the write. An image is not sent to a host
        whose power is unknown or changing. The evidence is a look afterwards (`core.bmc.shows`), after the
        task that the outcome names has ended.

        Raises: nothing of the error tree.
        """
        ...

    async def follow(self, target: BmcTarget, task: str, *, within_s: float) -> TaskSeen:
        """Wait until a task has ended, for at most so many policy seconds.

        A BMC that does not answer meanwhile may be restarting for this very task, and is asked again until
        the time is over. Cancelled, it can be called again; nothing is sent but reads.

        Raises:
            AuthRejected, WrongIdentity: as `look`.
        """
        ...

    async def close(self) -> None:
        """Log out everywhere, as far as BMCs answer; those that do not end sessions by themselves.

        Raises: nothing of the error tree.
        """
        ...


class Driver(Protocol):
    """The hardware seam: one instance per firmware family, shared by all its devices."""

    @property
    def capabilities(self) -> Capabilities:
        """What the family can do, as data."""
        ...

    async def identify(self, target: Target) -> Identity:
        """Who answers at the target's address, by the cheapest read that tells MAC or serial.

        Raises: as `observe`.
        """
        ...

    async def observe(self, target: Target, depth: Depth) -> Observation:
        """One look. What cannot be read or understood is `None`, never a default.

        Raises:
            Unreachable: nobody answered in time.
            AuthRejected: the credentials were refused.
            UnexpectedReply: the answer is not of this family's protocol (truncated, HTML, other family).
            OversizedReply: the answer passed the cap.
        """
        ...

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        """Send one change, at most once. Never retries a write, never waits for its effect.

        What the family needs to read to write (a whole document) is read here, freshly; if that
        read is not complete the outcome is `Failed` and nothing is written. Right before each
        command of a write leaves, whoever answers is compared with `target.pin`, and then, with
        nothing awaited in between, `permit` is asked. A no to either is `Failed`, or `InProgress`
        where a part of the write has left already.

        Raises: nothing of the error tree; each of its errors becomes an `Outcome`.
        """
        ...


class Nvml(Protocol):
    """The GPUs of the host that this process runs on. One user at a time."""

    async def look(self, at_s: float) -> NodeSeen:
        """One look at all of them, and the Xids since the one before.

        Whatever is missing, unsupported or broken is a named value: of the node in `trouble`, of a GPU `lost`
        or `None`. Xids are told from the first look on, not from before.

        Args:
            at_s: seconds since the epoch, for what is seen.

        Raises: nothing of the error tree, nor of the library.
        """
        ...

    async def apply(self, write: GpuWrite) -> GpuOutcome:
        """Write one setting of one GPU, once, and read it back where it can be read.

        Raises: as `look`.
        """
        ...

    async def reset(self, gpu: str) -> GpuOutcome:
        """Reset one GPU, by its bus address; nothing may be using it. Most drivers only let the host do it.

        Raises: as `look`.
        """
        ...

    async def close(self) -> None:
        """Let the driver go, so that it can be unloaded. A later look opens it again."""
        ...


class Meters(Protocol):
    """Power meters, by Modbus TCP: one instance for all of a process."""

    async def read(self, meter: Meter) -> Reading:
        """What a meter says now, held against what can be so (`Reading.quality`), but not against before.

        One request at a time goes to each gateway: who reads many meters behind one waits for its line. A
        gateway or meter that was silent is left alone for a while, and this raises at once.

        Raises:
            Unreachable: nobody answered in time, or it is left alone; `MeterSilent`: its gateway says so.
            MeterBusy: it is at something else.
            WrongMap: it has no such registers, or is another model; who declared it acts.
            NoPath: its gateway has no line to such a unit; who set the gateway up acts.
            HardwareFault: it says that it failed.
            UnexpectedReply, OversizedReply: what answers is no Modbus device.
        """
        ...

    async def close(self) -> None:
        """End all connections. A later read opens its own again."""
        ...
