"""What no error of the tree covers, as the person at `pulumi up` reads it.

It is a bug of ours, so it says what a report of it needs: about what, which exception, and where. Its message
may quote whatever it failed over, so what looks like a secret is taken out of it.
"""

from __future__ import annotations

import re
from typing import Final

from control_plane.core.errors import ControlPlaneError
from control_plane.engine.bugs import in_words
from control_plane.hosts.connection import redacted

_MESSAGE_MAX: Final = 500
"""Characters of the exception's own message."""
_PEM: Final = re.compile(r"-----BEGIN .*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
_KEY_LIKE: Final = re.compile(r"(?=[A-Za-z+/=_-]*[0-9])[A-Za-z0-9+/=_-]{32,}")
"""Base64 and hexadecimal that is long enough for a key. Some paths look like it, which is no loss."""


class Bug(ControlPlaneError):
    """An exception that nobody meant. We act; whoever meets it sends us the line."""


def told(bug: Exception, about: str) -> Bug:
    """An unexpected exception, as an error that may be shown.

    Args:
        bug: the exception.
        about: the resource or the host that it befell, as its reader knows it.
    """
    inner = bug
    while isinstance(inner, ExceptionGroup):
        inner = inner.exceptions[0]
    message = _KEY_LIKE.sub("***", redacted(_PEM.sub("***", str(inner))))
    if len(message) > _MESSAGE_MAX:
        message = f"{message[:_MESSAGE_MAX]}..."
    said = f"{message} ({in_words(bug)})" if message else in_words(bug)
    return Bug(
        f"{about}: a bug of ours: {said}. Send us this line; what is done stays done, so running it again "
        "harms nothing"
    )
