"""Versions: what is installed, what rlkd asks for, and what it was tested with."""

import platform
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import rlkd
from rlkd.doctor.finding import Finding

_EXTRAS_OF_DEVELOPERS = {"dev"}


def requirements() -> list[Requirement]:
    """What the installed rlkd asks for, extras included.

    Raises:
        metadata.PackageNotFoundError: rlkd is not installed, only on the path.
    """
    return [Requirement(text) for text in metadata.requires("rlkd") or []]


def versions_tested() -> dict[str, str]:
    """Package -> version in constraints.txt, which a source checkout has and a wheel has not."""
    root = Path(rlkd.__file__).resolve().parent.parent
    file = root / "constraints.txt"
    if not file.is_file() or not (root / "pyproject.toml").is_file():
        return {}
    pairs = (line.partition("==") for line in file.read_text(encoding="utf-8").splitlines())
    return {_plain(name): version.strip() for name, mark, version in pairs if mark}


def look() -> list[Finding]:
    """Python, and every package that rlkd needs."""
    try:
        wanted = requirements()
    except metadata.PackageNotFoundError:
        return [
            Finding(
                "warning",
                f"rlkd {rlkd.__version__} is on the path but not installed: nobody knows which"
                " versions it needs",
                "pip install -e . in its folder",
            )
        ]
    found = [_python()]
    tested = versions_tested()
    for requirement in sorted(wanted, key=lambda requirement: requirement.name.lower()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(_package(requirement, tested.get(_plain(requirement.name))))
    return found


def look_at_extras() -> list[Finding]:
    """What a run needs only if its config says so."""
    try:
        wanted = requirements()
        extras = metadata.metadata("rlkd").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    found, tested = [], versions_tested()
    for extra in sorted(set(extras) - _EXTRAS_OF_DEVELOPERS):
        needed = [
            requirement
            for requirement in wanted
            if requirement.marker is not None
            and not requirement.marker.evaluate({"extra": ""})
            and requirement.marker.evaluate({"extra": extra})
        ]
        missing = [req.name for req in needed if _installed(req.name) is None]
        if missing:
            found.append(
                Finding(
                    "ok",
                    f"{extra}: not installed ({', '.join(missing)}); where a config needs it:"
                    f" pip install 'rlkd[{extra}]'",
                )
            )
        else:
            found += [_package(req, tested.get(_plain(req.name))) for req in needed]
    return found


def _python() -> Finding:
    version, wanted = platform.python_version(), metadata.metadata("rlkd")["Requires-Python"]
    fits = Requirement(f"python{wanted or ''}").specifier.contains(version, prereleases=True)
    if not fits:
        return Finding("problem", f"python {version}: rlkd asks for {wanted}", "install such a one")
    return Finding("ok", f"python {version} ({wanted} wanted)")


def _package(requirement: Requirement, tested: str | None) -> Finding:
    name, asked = requirement.name, str(requirement.specifier)
    version = _installed(name)
    if version is None:
        return Finding("problem", f"{name} is missing", f"pip install '{name}{asked}'")
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(
            "problem",
            f"{name} {version}: rlkd {rlkd.__version__} asks for {asked}",
            f"pip install '{name}{asked}'" + (f", or =={tested}, as tested" if tested else ""),
        )
    if tested is not None and Version(tested).public != Version(version).public:
        return Finding(
            "warning",
            f"{name} {version}: within {asked}, but the tests ran with {tested}",
            f"if something is odd: pip install '{name}=={tested}'",
        )
    return Finding("ok", f"{name} {version} ({asked} wanted{', as tested' if tested else ''})")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
