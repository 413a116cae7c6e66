"""A bad line to a device: what is sent or answered is lost, late, doubled or mangled, by chance."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from msgspec.structs import replace

from control_plane.simulator.network import Station, Trouble
from control_plane.simulator.wire import Device, Reply, Session
from tests.scenarios.process import ACTING


class Noise(msgspec.Struct, kw_only=True):
    """Probabilities per exchange, of every line of a site; a class that is off is 0."""

    rng: random.Random
    loss: float = 0.0
    """Nothing arrives."""
    mute: float = 0.0
    """What was sent is acted upon, the reply is lost."""
    write_mute: float = 0.0
    """The same, of a write."""
    delay: float = 0.0
    delay_max_s: float = 5.0
    mangle: float = 0.0
    """The reply is cut short, doubled, noise, a page or without end."""
    dark: Counter[str] = msgspec.field(default_factory=Counter)
    """Assets whose line is dead, by how many causes."""

    def calm(self) -> None:
        """All lines are good again."""
        self.loss = self.mute = self.write_mute = self.delay = self.mangle = 0.0


_MANGLED = (Trouble.GARBAGE, Trouble.HTML, Trouble.ENDLESS, Trouble.TRUNCATE, Trouble.RESET, None)


class NoisyStation(Station):
    """A device behind such a line; `trouble` comes on top."""

    __slots__ = ("_noise",)

    def __init__(self, asset: str, address: str, device: Device, noise: Noise) -> None:
        super().__init__(asset, address, device)
        self._noise = noise

    def reachable(self) -> bool:
        dark = self._noise.dark[self.asset] > 0
        return not dark and super().reachable() and not self._happens(self._noise.loss)

    def hear(self, session: Session, data: bytes) -> tuple[Reply, ...]:
        noise = self._noise
        if noise.dark[self.asset] > 0:
            return ()
        if self.trouble is not None:
            return super().hear(session, data)
        if self._happens(noise.loss):
            return ()
        lost = noise.mute if ACTING.get() is None else max(noise.mute, noise.write_mute)
        if self._happens(lost):
            session.feed(data)
            return ()
        if self._happens(noise.mangle):
            return self._mangled(session, data)
        replies = session.feed(data)
        if replies and self._happens(noise.delay):
            late_s = noise.rng.uniform(0.0, noise.delay_max_s)
            return (replace(replies[0], after_s=replies[0].after_s + late_s), *replies[1:])
        return replies

    def _mangled(self, session: Session, data: bytes) -> tuple[Reply, ...]:
        trouble = self._noise.rng.choice(_MANGLED)
        if trouble is None:
            return tuple(replace(reply, data=reply.data * 2) for reply in session.feed(data))
        self.trouble = trouble
        try:
            return super().hear(session, data)
        finally:
            self.trouble = None

    def _happens(self, chance: float) -> bool:
        # No draw where nothing can happen: a calm line leaves the seed's numbers alone.
        return chance > 0.0 and self._noise.rng.random() < chance
