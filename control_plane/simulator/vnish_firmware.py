"""How a simulated VNish takes firmware: `/firmware/update` and `/firmware/remove` (swagger document).

An image comes as multipart form data under `file`, with `keep_settings` beside it. It is checked while the
unit mines; the answer is `{"after": 3}`, and then it boots and writes itself. Refusals are a 500 with
words: the document lists no other code. Images are not those of the maker: see `images`.

There is one bank: a cut of its power in the middle is the end of it, and it goes back only by an older
image. No simulated unit has kept its maker's stock firmware to go back to.
"""

from __future__ import annotations

import re
from typing import Final

from control_plane.simulator.http_in import Request, uploaded
from control_plane.simulator.images import SimImage, read_image
from control_plane.simulator.vnish_builds import BUILDS
from control_plane.simulator.vnish_conf import Conf
from control_plane.simulator.vnish_unit import Unit

FAMILY: Final = "vnish"
CHECK_IMAGE_S: Final = 5.0
"""Wire seconds until an uploaded image is checked and copied. Ours."""
_KEEP: Final = re.compile(rb'name="?keep_settings"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n')


def update(unit: Unit, request: Request) -> str | None:
    """Take an image and boot into it; why not, in the device's words.

    Settings stay unless `keep_settings` says `false`; the password and the address always do.
    """
    data = uploaded(request)
    image = None if data is None else read_image(data)
    problem = _problem(unit, data, image)
    acts = problem is None and unit.machine.obeys
    told = image.version if image is not None else f"{len(data or b'')} bytes"
    unit.machine.note("firmware/update", told, asks_w=unit.permits_w(unit.conf), honoured=acts)
    if acts and image is not None:
        kept = _KEEP.search(request.body)
        if kept is not None and kept[1] == b"false":
            unit.conf = Conf(cooling=unit.conf.cooling)
        unit.build = BUILDS.get(image.version, unit.build)
        unit.flash.write(image)
    return problem


def remove(unit: Unit) -> str:
    """Refuse to go back to stock firmware, in the device's words."""
    unit.machine.note("firmware/remove", "", honoured=False)
    return "This model has no 'remove firmware'"


def _problem(unit: Unit, data: bytes | None, image: SimImage | None) -> str | None:
    """The wording is ours."""
    if data is None:
        return "Field 'file' is missing"
    if image is None:
        return "Firmware image is corrupted"
    if not unit.flash.fits(image, FAMILY, unit.build.platform):
        return "Firmware image is for another model"
    return None
