"""What Pulumi runs for `--policy-pack policy`."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(p for p in sys.path if not p or Path(p).resolve() != _HERE)]

from policy.pack import serve  # noqa: E402 - after the path is put right

serve(_HERE.parent)
