"""The trace of a seed in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CODE = """
import sys
from tests.scenarios.play import play
for seed in sys.argv[1:]:
    print(play(int(seed)).digest)
"""


def replay(seeds: Iterable[int], hash_seed: str) -> list[str]:
    """The trace hashes that another process gives, with its own order of hashes."""
    told = subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, seeds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()
