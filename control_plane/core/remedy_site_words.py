"""What persons say of many GPU nodes at once: an emergency, break-glass, and the end of either. Pure.

Each has a name that whoever says it chose: heard twice it is one word. One that a person ended is kept until
its time is over, and one whose time is over is not heard any more, so nothing that is said again begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core.remedy_case import BreakGlass, Emergency, Ended
from control_plane.core.remedy_kept import SiteKept
from control_plane.core.remedy_urgent import in_force

SiteWord = Emergency | BreakGlass


def word_named(site: SiteKept, name: str) -> SiteWord | None:
    """What was said under a name, ended or not, as long as its time is not over."""
    return next((one for one in site.words if one.id == name), None)


def is_said_again(kept: SiteWord, word: SiteWord) -> bool:
    """Whether a word is the one that is kept under its name, whatever came of that since."""
    if isinstance(kept, Emergency) and isinstance(word, Emergency):
        return msgspec.structs.replace(kept, ended=None) == word
    if isinstance(kept, BreakGlass) and isinstance(word, BreakGlass):
        return word == msgspec.structs.replace(
            kept, by=kept.by[: len(word.by)], watts=word.watts, ended=None
        )
    return False


def with_word(site: SiteKept, word: SiteWord) -> SiteKept:
    """What is kept with one more word, or with what became of one that is kept already."""
    if isinstance(word, Emergency):
        others: tuple[SiteWord, ...] = site.emergencies
    else:
        others = site.glass
    after = (*(one for one in others if one.id != word.id), word)
    if isinstance(word, Emergency):
        return msgspec.structs.replace(site, emergencies=after)
    return msgspec.structs.replace(site, glass=after)


def watts_under_glass(
    site: SiteKept, nodes: Iterable[str], draws_w: Mapping[str, float], *, now_s: float
) -> float:
    """What the nodes of a break-glass may draw, with all that others are set aside for at this moment.

    Several small ones of one person are as much as a large one: that is what the second person is for.

    Args:
        site: what is kept.
        nodes: of the one that is said.
        draws_w: node → its full draw; one that is declared no more draws nothing that we decide on.
        now_s: policy time.
    """
    under = set(nodes)
    for one in in_force(site.glass, now_s=now_s):
        under |= one.nodes
    return sum(draws_w.get(node, 0.0) for node in under)


def signed(one: BreakGlass, *, by: str) -> BreakGlass:
    """With one more person; nobody counts twice."""
    return one if by in one.by else msgspec.structs.replace(one, by=(*one.by, by))


def ended(one: SiteWord, by: Ended) -> SiteWord:
    """A word that goes on no more."""
    return one if one.ended is not None else msgspec.structs.replace(one, ended=by)


def without_past(site: SiteKept, *, now_s: float) -> SiteKept:
    """Without the words whose time is over."""
    emergencies = tuple(one for one in site.emergencies if now_s < one.until_s)
    glass = tuple(one for one in site.glass if now_s < one.until_s)
    if (emergencies, glass) == (site.emergencies, site.glass):
        return site
    return msgspec.structs.replace(site, emergencies=emergencies, glass=glass)


def with_site_words_of(site: SiteKept, now: SiteKept) -> SiteKept:
    """What was kept of a site, with what persons have said of it since."""
    return msgspec.structs.replace(site, emergencies=now.emergencies, glass=now.glass)
