"""What no error of the tree covers is a bug of ours: it costs one device its turn, and one page."""

from __future__ import annotations

from pathlib import PurePath

from control_plane.engine.journal import Journal

_OURS = "control_plane"


def in_words(bug: Exception) -> str:
    """Type and place, as `KeyError at drivers/antminer.py:120`; its message may quote a secret."""
    while isinstance(bug, ExceptionGroup):
        bug = bug.exceptions[0]
    where, step = "nowhere", bug.__traceback__
    found_ours = False
    while step is not None:
        parts = PurePath(step.tb_frame.f_code.co_filename).parts
        is_ours = _OURS in parts
        if is_ours or not found_ours:
            inner = parts[parts.index(_OURS) + 1 :] if is_ours else parts[-2:]
            where = f"{'/'.join(inner)}:{step.tb_lineno}"
        found_ours = found_ours or is_ours
        step = step.tb_next
    return f"{type(bug).__name__} at {where}"


class Bugs:
    """Pages each place once, however many devices meet it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: set[str] = set()

    def page(self, asset: str, words: str) -> None:
        """Tell people, unless they were told of this place."""
        if words not in self._known:
            self._known.add(words)
            self._journal.page(
                f"{asset}: a bug of ours: {words}. Devices that meet it are left as they are, all "
                "others go on; send us this line",
                asset=asset,
            )
