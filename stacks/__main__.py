"""What Pulumi runs for each stack of the project."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# Pulumi puts this folder first on the path. There `platform` would be ours instead of the standard library's.
sys.path[:] = [str(_HERE.parent), *(p for p in sys.path if not p or Path(p).resolve() != _HERE)]

from stacks.program import declare  # noqa: E402 - after the path is put right

declare(_HERE.parent)
