"""`make ampctl.pyz`: ampctl and Click in one executable file, for any machine with Python 3.11 or newer.

The archive has each source file, and beside it the bytecode of the Python that builds the archive. That Python starts
the archive as fast as an installed ampctl; others compile the sources at each start. The same
inputs give the same bytes.
"""

import importlib.metadata
import json
import os
import py_compile
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click

import amp_workers
from amp_workers.build_info import build_info

_MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("ampctl: Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])

from amp_workers.ctl.cli import main

main()
"""

_SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (1980, 1, 1, 0, 0, 0)
"""The first that a zip archive can hold: a build's own time would change the bytes."""


def write(target: Path) -> None:
    """Write the archive, in place of an older one."""
    entries = dict(_entries())
    unfinished = target.with_name(f"{target.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(entries):
                archive.writestr(zipfile.ZipInfo(name, _DATE), entries[name], zipfile.ZIP_DEFLATED)
    unfinished.chmod(0o755)
    unfinished.replace(target)


def _entries() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    # The date of a build would change the bytes.
    stamp = {key: value for key, value in build_info(os.environ).items() if key != "build_date"}
    yield "amp_workers/build_stamp.json", json.dumps(stamp, indent=2).encode()
    package = Path(amp_workers.__file__).parent
    for source in [*package.glob("*.py"), *package.joinpath("ctl").glob("*.py")]:
        yield from _module(source, package.parent)
    library = Path(click.__file__).parent
    for source in library.rglob("*.py"):
        yield from _module(source, library.parent)
    for file in importlib.metadata.files("click") or []:
        if "LICENSE" in file.name:
            yield f"click/{file.name}", file.read_binary()


def _module(source: Path, root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a source and its bytecode, which says nothing of when and where it was compiled."""
    name = source.relative_to(root).as_posix()
    yield name, source.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        compiled = Path(directory) / "compiled"
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), str(compiled), name, doraise=True, invalidation_mode=mode)
        yield f"{name}c", compiled.read_bytes()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
