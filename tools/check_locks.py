"""Check, without a network, that requirements/*.txt are what `make lock` would have left.

Every requirement of pyproject.toml is pinned in its lock at a version it allows; every pin carries
a hash; no lock says where packages come from.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def group(project: dict[str, Any], name: str) -> list[str]:
    """A dependency group, with the groups that it includes."""
    found: list[str] = []
    for item in project["dependency-groups"][name]:
        found += [item] if isinstance(item, str) else group(project, item["include-group"])
    return found


def read_lock(text: str) -> tuple[dict[str, Version], list[str]]:
    """The pins of a lock by canonical name, and what is wrong with the lock itself."""
    pins: dict[str, Version] = {}
    problems: list[str] = []
    for entry in text.replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        pin, *hashes = entry.split("--hash=")
        if not hashes or not all(value.startswith("sha256:") for value in hashes):
            problems.append(f"no SHA-256 hash, or not a pin: {entry.strip()[:80]}")
            continue
        requirement = Requirement(pin.strip())
        exact = [clause.version for clause in requirement.specifier if clause.operator == "=="]
        if len(exact) != 1 or requirement.url:
            problems.append(f"not pinned to one version: {pin.strip()}")
            continue
        pins[canonicalize_name(requirement.name)] = Version(exact[0])
    if "://" in text:
        problems.append("names a host; locks only name versions and hashes")
    return pins, problems


def missing(pins: dict[str, Version], wanted: list[str]) -> list[str]:
    """The requirements that `pins` does not meet, as sentences."""
    problems: list[str] = []
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            problems.append(f"{requirement} is not pinned")
        elif not requirement.specifier.contains(pin, prereleases=True):
            problems.append(f"{requirement} is pinned to {pin}")
    return problems


def main() -> int:
    """Print every disagreement; 1 when there is one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    runtime = project["project"]["dependencies"] + extras["fast"] + extras["kube"]
    wanted = {
        "runtime": runtime,
        "dev": [
            *runtime,
            *extras["pulumi"],
            *extras["ssh"],
            *group(project, "dev"),
            *project["build-system"]["requires"],
        ],
        "clients": group(project, "clients"),
        "resolver": group(project, "resolver"),
    }
    pins: dict[str, dict[str, Version]] = {}
    problems: list[str] = []
    for name, requirements in wanted.items():
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        pins[name], own = read_lock(text)
        own += missing(pins[name], requirements)
        problems += [f"requirements/{name}.txt: {problem}; run `make lock`" for problem in own]
    problems += [
        f"requirements/dev.txt: {name} is {pins['dev'].get(name)}, but runtime.txt has {version};"
        " run `make lock`"
        for name, version in pins["runtime"].items()
        if pins["dev"].get(name) != version
    ]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
