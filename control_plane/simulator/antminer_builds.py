"""What differs between builds of Bitmain's stock firmware: each trap as data.

Derived from: the firmware's own CGI scripts (`get_miner_conf.cgi`, `set_miner_conf.cgi`, S19 and
S21 generations) as published, field reports ARS#245, #249, #260, #310, #312, #325 and #328,
MinerWatch's notes on the S19 XP, and pyasic's and asic-rs's readers. No live device was at hand.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.simulator.machine import Machine, mix

NORMAL, SLEEP, HIGH, LOW = 0, 1, 2, 3
"""Work-mode codes. 2 is the *efficient* mode on the S19k Pro (hass-miner PR#588)."""


class Framing(StrEnum):
    """How the web server ends a CGI reply."""

    CLOSE = "close"
    """No length; the end of the connection is the end of the reply."""
    LENGTH = "length"
    """Content-Length and keep-alive."""
    CHUNKED = "chunked"
    """Chunked and keep-alive: what lighttpd does to a CGI that names no length."""


class Race(StrEnum):
    """What a read meets in the seconds after a config write was answered."""

    REFUSE = "refuse"
    """The web server restarts: connections are refused."""
    HALF = "half"
    """The config file is being rewritten: half a document."""
    STALE = "stale"
    """The document as it was before."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware build, by what clients can notice."""

    name: str
    compile_time: str
    miner_version: str
    reports_watts: bool = True
    """`stats` with `new_api` has `watt`; nothing else on 4028 ever does."""
    mode_keys: frozenset[str] = frozenset({"miner-mode"})
    """Keys under which a posted mode is honoured."""
    needs_both_keys: bool = False
    """S21+ of February 2025 ignores a single key (ARS#310)."""
    integer_only: bool = True
    """A mode posted as text is acknowledged and discarded (ARS#245)."""
    whole_only: bool = False
    """A document without all of pools, fan and mode is acknowledged and discarded."""
    plain_text_only: bool = False
    """Honoured only with `Content-Type: text/plain` (MinerWatch, S19 XP)."""
    null_discards: bool = False
    """A JSON null in the document discards it: the browser sends "0" instead."""
    filtered_read: bool = False
    """`get_miner_conf` prints a fixed list of keys, absent ones as null."""
    hides_percent: bool = False
    """`bitmain-hashrate-percent` is not read back, but posting it is honoured."""
    efficient_is_2: bool = False
    accept_s: float = 1.0
    """Wire seconds from a config write to its answer; the script itself sleeps 1 s."""
    sleep_hold_s: float = 60.0
    """Device seconds that it hashes on after an acknowledged sleep."""
    sleeps_at_reboot: bool = False
    """Sleep is stored and read back, but hash drops only after a reboot (ARS#245)."""
    reloads_pools: bool = False
    """A write that leaves the mode alone reloads the miner without losing hash."""
    race: Race = Race.HALF
    half_boot_s: float = 20.0
    """Device seconds after boot in which the config reads as factory default (ARS#260)."""
    framing: Framing = Framing.CHUNKED
    lacks_comma: bool = False
    """`stats` on 4028 has no comma between its rows."""
    has_miner_type: bool = True
    """`miner_type.cgi` exists; older builds answer 404."""
    serial_key: str | None = "serinum"
    """Where `get_system_info` tells the serial number; builds before 2023 do not."""

    def code_of(self, step: str, *, nominal_index: int, index: int) -> int:
        """The work-mode code of a ladder step, by its place around the nominal one."""
        if index == nominal_index:
            return NORMAL
        if self.efficient_is_2 or step in {"hem", "efficiency"}:
            return HIGH
        return LOW if index < nominal_index else HIGH


S19_2021 = Build(
    name="s19-2021",
    compile_time="Fri Nov 12 11:35:42 CST 2021",
    miner_version="49.0.1.3",
    whole_only=True,
    accept_s=21.0,
    sleep_hold_s=90.0,
    race=Race.REFUSE,
    framing=Framing.CLOSE,
    reports_watts=False,
    lacks_comma=True,
    has_miner_type=False,
    serial_key=None,
)
S19_2022 = Build(
    name="s19-2022",
    compile_time="Mon Dec 26 17:10:01 CST 2022",
    miner_version="49.0.1.3",
    accept_s=21.0,
    sleeps_at_reboot=True,
    race=Race.STALE,
    framing=Framing.CLOSE,
    reports_watts=False,
    serial_key=None,
)
S19_2023 = Build(
    name="s19-2023",
    compile_time="Wed Oct 18 10:44:02 CST 2023",
    miner_version="49.0.1.3",
    sleep_hold_s=75.0,
    race=Race.REFUSE,
)
S19XP_2023 = Build(
    name="s19xp-2023",
    compile_time="Tue Sep 19 16:21:40 CST 2023",
    miner_version="54.0.1.3",
    whole_only=True,
    plain_text_only=True,
    null_discards=True,
    filtered_read=True,
    hides_percent=True,
    race=Race.HALF,
    serial_key="serial_no",
)
S19KPRO_2023 = Build(
    name="s19kpro-2023",
    compile_time="Fri Oct 20 16:33:19 CST 2023",
    miner_version="59.0.1.3",
    efficient_is_2=True,
    filtered_read=True,
    race=Race.STALE,
    framing=Framing.LENGTH,
)
S21_2024 = Build(
    name="s21-2024",
    compile_time="Thu Mar 28 15:30:22 CST 2024",
    miner_version="68.0.1.3",
    mode_keys=frozenset({"miner-mode", "bitmain-work-mode"}),
    integer_only=False,
    filtered_read=True,
    reloads_pools=True,
    race=Race.HALF,
    framing=Framing.LENGTH,
)
S21_2025 = Build(
    name="s21-2025",
    compile_time="Wed Feb 12 18:01:32 CST 2025",
    miner_version="71.0.1.3",
    mode_keys=frozenset({"miner-mode", "bitmain-work-mode"}),
    needs_both_keys=True,
    filtered_read=True,
    reloads_pools=True,
    race=Race.REFUSE,
)

BUILDS = {
    build.name: build
    for build in (S19_2021, S19_2022, S19_2023, S19XP_2023, S19KPRO_2023, S21_2024, S21_2025)
}

# Shares within a type are ours: old builds are rare on a site that is looked after. A build that
# sleeps only after a reboot is kept to 3 % of S19s.
_MIX: tuple[tuple[str, tuple[tuple[float, Build], ...]], ...] = (
    ("S19 XP", ((1.0, S19XP_2023),)),
    ("S19K PRO", ((1.0, S19KPRO_2023),)),
    ("S19", ((0.12, S19_2021), (0.15, S19_2022), (1.0, S19_2023))),
    ("T19", ((0.12, S19_2021), (1.0, S19_2023))),
    ("S21+", ((1.0, S21_2025),)),
    ("", ((0.7, S21_2024), (1.0, S21_2025))),
)


def build_of(machine: Machine) -> Build:
    """The build that this unit runs: the same in every process, by type and asset id."""
    model = machine.model.model.upper().removeprefix("ANTMINER").strip()
    for prefix, shares in _MIX:
        if model.startswith(prefix):
            draw = mix(machine.seed, 40)
            for share, build in shares:
                if draw < share:
                    return build
    return S21_2024
