"""The web server of a cluster lab: firmware images, at the address that the site declares for them.

Whoever has images for the lab's machines lays them into its folder `images`.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from control_plane.core.fleet import Site
from control_plane.lab import processes
from control_plane.lab.network import Network
from control_plane.lab.records import LabError

PROGRAM = "firmware-store"
_FOLDER = "store"
_HTTP_PORT = 80


def address_of(site: Site) -> str | None:
    """Where the lab serves the site's images; `None` where a host does, or nothing is declared."""
    store = urlsplit(site.firmware_store or "").hostname
    return None if store in {host.address for host in site.hosts} else store


def images_of(lab: Path, url: str) -> Path:
    """The folder that a URL of the store leads to."""
    return lab / _FOLDER / urlsplit(url).path.strip("/")


def start(lab: Path, network: Network, url: str, log: Path) -> None:
    """Serve the folder, made where it is missing.

    Raises:
        LabError: its path leads out of the folder.
    """
    place, folder = urlsplit(url), images_of(lab, url)
    if not folder.resolve().is_relative_to(lab / _FOLDER):
        raise LabError(f"{url} leads out of the lab's folder")
    folder.mkdir(parents=True, exist_ok=True)
    serve = processes.python(
        "http.server", str(place.port or _HTTP_PORT), f"--bind={place.hostname}",
        f"--directory={lab / _FOLDER}",
    )  # fmt: skip
    processes.start(PROGRAM, network.inside(*serve), lab=lab, log=log)
