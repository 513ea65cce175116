"""`make dist`: the wheel and the source distribution of a commit, in dist/, checked.

The version is the git tag, or what `git describe` prints: nothing else names it. The bytes depend on the commit and on
SOURCE_DATE_EPOCH, which is the time of the commit unless it is set.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from amp_workers.build_info import build_info

ROOT = Path(__file__).resolve().parents[1]

PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")

_RELEASE = re.compile(r"v(\d+\.\d+\.\d+)")


class DistributionError(Exception):
    """What was built must not be published; the message says why."""


def build(source: Path, target: Path) -> list[Path]:
    """Build the source distribution and the wheel of a checkout into a directory; return their paths.

    Raises:
        DistributionError: they cannot be built.
    """
    epoch = _output("git", "-C", str(source), "log", "-1", "--format=%ct").strip()
    environment = {"SOURCE_DATE_EPOCH": epoch, **os.environ}
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(target)]
    _output(*hatchling, cwd=source, environment=environment)
    return sorted(target.iterdir())


def check_metadata(distributions: list[Path]) -> None:
    """Have twine check what PyPI would show.

    Raises:
        DistributionError: PyPI would refuse it, or show the description as plain text.
    """
    _output(sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions))


def check_changelog(version: str, changelog: str) -> None:
    """Check that a release has its section.

    Raises:
        DistributionError: the version is a tag's, and has none.
    """
    release = _RELEASE.fullmatch(version)
    if release and not re.search(rf"^## \[{re.escape(release[1])}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M):
        raise DistributionError(f"CHANGELOG.md has no section '## [{release[1]}] - YYYY-MM-DD'")


def check_installed(distribution: Path, python: str, version: str) -> None:
    """Install a distribution into an empty environment and run its commands.

    Raises:
        DistributionError: it cannot be installed, brings a PostgreSQL, or shows another version.
    """
    with tempfile.TemporaryDirectory(prefix="amp-dist-") as directory:
        _output(python, "-m", "venv", directory)
        programs = Path(directory) / "bin"
        constraints = {**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check"]
        _output(*pip, "install", "-qq", str(distribution), environment=constraints)
        if "pgserver" in _output(*pip, "list"):
            raise DistributionError(f"{distribution.name} brings a PostgreSQL, which only the extra solo may")
        for program in ("ampd", "ampctl"):
            shown = _output(str(programs / program), "--version")
            if shown != f"{program}, version {version}\n":
                raise DistributionError(f"{distribution.name} shows '{shown.strip()}' instead of {version}")


def pythons() -> Iterator[str]:
    """Yield the programs of the Pythons that are supported and run here."""
    for name in PYTHONS:
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            yield path


def main() -> None:
    """Build, check, and print a line for each step."""
    version = build_info(os.environ)["version"]
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    try:
        check_changelog(version, (ROOT / "CHANGELOG.md").read_text())
        distributions = build(ROOT, target)
        for distribution in distributions:
            print(f"{distribution.relative_to(ROOT)} ({distribution.stat().st_size / 1000:.0f} kB)", flush=True)
        check_metadata(distributions)
        print("twine check: passed", flush=True)
        for python in pythons():
            for distribution in distributions:
                check_installed(distribution, python, version)
            print(f"{Path(python).name}: installed, ampd and ampctl {version}", flush=True)
    except DistributionError as error:
        sys.exit(f"make dist: {error}")


def _output(*command: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DistributionError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
