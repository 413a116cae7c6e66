"""`python -m tools.fleetgen`: write a fleet of any size, or the example's bulk; `--check` compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.fleetgen import example, synthetic

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = 1


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fleetgen",
        description=__doc__,
        epilog="python -m tools.fleetgen --devices 300000 --sites 20 --out DIR",
    )
    parser.add_argument("--preset", choices=["example"], help="what is committed")
    parser.add_argument(
        "--check", action="store_true", help="with --preset: compare, write nothing"
    )
    parser.add_argument("--devices", type=int, default=14_000, help="slots in all (default 14000)")
    parser.add_argument("--sites", type=int, default=1, help="default 1")
    parser.add_argument("--seed", type=int, default=SEED, help="draws states, bins, dates")
    parser.add_argument("--out", type=Path, help="the new inventory folder")
    given = parser.parse_args()
    if given.preset:
        root, wanted = ROOT, example.files(SEED)
    else:
        if given.out is None or given.devices < given.sites or given.sites < 1:
            parser.error("--out is needed, and at least one device a site")
        root = given.out
        wanted = synthetic.files(given.devices, given.sites, given.seed, ROOT / "inventory")
    different = []
    for name, text in wanted.items():
        path = root / name
        if given.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                different.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if different:
        sys.stderr.write(f"differ from what is made: {', '.join(different)}\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
