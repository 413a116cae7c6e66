"""`gridplane --help` beside `pip --help`: CPU of a command that only prints."""

from __future__ import annotations

from bench.figures import Figure, median, run_python

_RUNS = 9


def measure() -> list[Figure]:
    """CPU milliseconds, median of several starts."""
    ours = ["-c", "import sys; from control_plane.cli.main import main; sys.exit(main(['--help']))"]
    cpu = {"gridplane": [], "pip": [], "python": []}  # type: dict[str, list[float]]
    for _ in range(_RUNS):
        cpu["gridplane"].append(run_python(ours).cpu_s)
        cpu["pip"].append(run_python(["-m", "pip", "--help"]).cpu_s)
        cpu["python"].append(run_python(["-c", "pass"]).cpu_s)
    return [
        Figure(
            name="gridplane --help",
            value=median(cpu["gridplane"]) * 1_000,
            unit="ms CPU",
            target=100.0,
            peer="pip --help",
            peer_value=median(cpu["pip"]) * 1_000,
            note=f"bare Python {median(cpu['python']) * 1_000:.0f} ms",
        )
    ]
