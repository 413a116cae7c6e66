"""Times as Kubernetes and annotations have them: RFC 3339, to the second."""

from __future__ import annotations

import datetime as dt


def moment_text(at_s: float) -> str:
    """Seconds since the epoch as text, in UTC."""
    return dt.datetime.fromtimestamp(int(at_s), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_in(text: str) -> float | None:
    """Seconds since the epoch; `None` where the text is no time."""
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
