"""What a machine can run of its own system: coreutils, systemd, sysctl, tar, containerd's client."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence

from control_plane.simulator.hosts.machine import Ended, Machine, Program, StoredFile

_NULL = "/dev/null"


def _error(text: str, code: int = 1) -> Ended:
    return Ended(code, b"", f"{text}\n".encode())


def _operands(words: Sequence[str]) -> list[str]:
    """What is no option."""
    if "--" in words:
        return list(words[words.index("--") + 1 :])
    return [word for word in words if not word.startswith("-")]


def _true(_machine: Machine, _words: Sequence[str], _stdin: bytes) -> Ended:
    return Ended()


def _test(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    return Ended(0 if words[0] == "-e" and words[1] in machine.files else 1)


def _cat(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    out = b""
    for path in _operands(words):
        if path not in machine.files:
            return Ended(1, out, f"cat: {path}: No such file or directory\n".encode())
        out += machine.files[path].content
    return Ended(0, out)


def _sha256sum(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    out, err = "", ""
    for path in _operands(words):
        if path in machine.files:
            out += f"{hashlib.sha256(machine.files[path].content).hexdigest()}  {path}\n"
        else:
            err += f"sha256sum: {path}: No such file or directory\n"
    return Ended(1 if err else 0, out.encode(), err.encode())


def _stat(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    there = [path for path in _operands(words) if path in machine.files]
    out = "".join(f"{machine.files[path].mode:o} {path}\n" for path in there)
    return Ended(0 if len(there) == len(_operands(words)) else 1, out.encode())


def _head(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    there = [path for path in _operands(words) if path in machine.files]
    size = next(int(word.removeprefix("--bytes=")) for word in words if word.startswith("--bytes="))
    blocks = [f"==> {p} <==\n{machine.files[p].content[:size].decode()}" for p in there]
    return Ended(0 if len(there) == len(_operands(words)) else 1, "\n".join(blocks).encode())


def _install(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    if words[0] == "-d":
        return Ended()
    _, mode, source, target = words
    content = b"" if source == _NULL else machine.files[source].content
    machine.files[target] = StoredFile(content, int(mode, 8))
    return Ended()


def _dd(machine: Machine, words: Sequence[str], stdin: bytes) -> Ended:
    [target] = [word.removeprefix("of=") for word in words if word.startswith("of=")]
    mode = machine.files[target].mode if target in machine.files else 0o644
    machine.files[target] = StoredFile(stdin, mode)
    return Ended()


def _chmod(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    mode, path = words
    machine.files[path] = StoredFile(machine.files[path].content, int(mode, 8))
    return Ended()


def _mv(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    source, target = _operands(words)
    machine.files[target] = machine.files.pop(source)
    return Ended()


def _rm(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    for path in _operands(words):
        machine.files.pop(path, None)
    return Ended()


def _tar(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    packed = machine.files[words[words.index("--file") + 1]].content
    root = words[words.index("--directory") + 1].rstrip("/")
    plain = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    try:
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive.getmembers():
                found = archive.extractfile(member) if member.isfile() else None
                if found:
                    path = f"{root}/{member.name.lstrip('./')}"
                    machine.files[path] = StoredFile(found.read(), member.mode)
    except tarfile.TarError as error:
        return _error(f"tar: {error}", 2)
    return Ended()


def _gzip(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    packed = machine.files.pop(words[-1])
    machine.files[words[-1].removesuffix(".gz")] = StoredFile(gzip.decompress(packed.content))
    return Ended()


def _sysctl(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    if words[0] == "--write":
        key, _, value = words[1].partition("=")
        machine.sysctls[key] = value
        return Ended(0, f"{key} = {value}\n".encode())
    known = [key for key in _operands(words) if key in machine.sysctls]
    return Ended(0, "".join(f"{key} = {machine.sysctls[key]}\n" for key in known).encode())


def _systemctl(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    verb, units = words[0], _operands(words[1:])
    if verb == "daemon-reload":
        return Ended()
    if verb == "reboot":
        machine.reboot()
        return Ended()
    if verb == "show":
        return Ended(0, "\n".join(_shown(machine, unit) for unit in units).encode())
    for unit in units:
        if not machine.has_unit(unit):
            return _error(f"Failed to {verb} unit: Unit file {unit} does not exist.")
        if verb == "enable":
            machine.enabled.add(unit)
        if verb in {"start", "restart"} or "--now" in words:
            started = machine.cluster.start_unit(machine, unit)
            if started.code:
                return started
            machine.start(unit)
        if verb == "try-restart" and unit in machine.running:
            machine.start(unit)
    return Ended()


def _shown(machine: Machine, unit: str) -> str:
    known = machine.has_unit(unit)
    state = {
        "Id": unit,
        "LoadState": "loaded" if known else "not-found",
        "ActiveState": "active" if unit in machine.running else "inactive",
        "UnitFileState": ("enabled" if unit in machine.enabled else "disabled") if known else "",
    }
    return "".join(f"{key}={value}\n" for key, value in state.items())


def _grep(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    wanted, path = _operands(words)
    return Ended(0 if wanted in (machine.text(path) or "").splitlines() else 1)


def _lspci(machine: Machine, _words: Sequence[str], _stdin: bytes) -> Ended:
    lines = [
        '0000:00:00.0 "0600" "8086" "0998" -r04 "8086" "0000"',
        '0000:05:00.0 "0680" "10de" "22a3" -ra1 "" ""',
    ]
    lines += [f'{gpu} "0302" "10de" "2335" -ra1 "10de" "18be"' for gpu in machine.gpus]
    return Ended(0, "".join(f"{line}\n" for line in lines).encode())


def _journalctl(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    [wanted] = [word.removeprefix("--grep=") for word in words if word.startswith("--grep=")]
    found = [(at_s, said) for at_s, said in machine.kernel_log if re.search(wanted, said)]
    lines = [
        json.dumps(
            {"__CURSOR": f"s={n}", "__REALTIME_TIMESTAMP": str(round(at_s * 1e6)), "MESSAGE": said}
        )
        for n, (at_s, said) in enumerate(found)
    ]
    return Ended(0 if found else 1, "".join(f"{line}\n" for line in lines).encode())


def _ctr(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    if "containerd.service" not in machine.running:
        return _error("ctr: failed to dial /run/containerd/containerd.sock: connection refused")
    machine.images.add(hashlib.sha256(machine.files[words[-1]].content).hexdigest())
    return Ended()


SYSTEM: Mapping[str, Program] = {
    "cat": _cat, "chmod": _chmod, "ctr": _ctr, "dd": _dd, "grep": _grep, "gzip": _gzip, "head": _head,
    "install": _install, "journalctl": _journalctl, "lspci": _lspci, "mv": _mv, "rm": _rm,
    "sha256sum": _sha256sum, "stat": _stat, "sysctl": _sysctl, "systemctl": _systemctl, "tar": _tar,
    "test": _test, "true": _true,
}  # fmt: skip
"""Program → what it does."""
