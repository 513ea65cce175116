"""What hatchling takes from here: the version of a distribution, and the build hook that stamps it.

The stamp is `amp_workers/build_stamp.json`, an object with the four keys of a worker's `info`. A source distribution
carries its stamp along, so that a wheel made from it, without git, still names its commit.
An editable install gets none: `build_info` asks git each time instead.
"""

import importlib.util
import json
import os
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
STAMP = "amp_workers/build_stamp.json"

_DESCRIBED = re.compile(r"v(?P<release>\d+(\.\d+)*)(-(?P<commits>\d+)-(?P<commit>g[0-9a-f]+))?(?P<dirty>-dirty)?")


def distribution_version() -> str:
    """Return `git describe` as PEP 440 writes it: v1.2.3 is 1.2.3, and v1.2.3-15-g8b065bde is 1.2.3.post15+g8b065bde.

    The environment can name it where there is no git. 0.0.0+unknown is a version that nothing names.
    """
    described = _DESCRIBED.fullmatch(_of_build().get("version", ""))
    if described is None:
        return "0.0.0+unknown"
    release = described["release"] + (f".post{described['commits']}" if described["commits"] else "")
    local = [part for part in (described["commit"], (described["dirty"] or "").lstrip("-")) if part]
    return release + (f"+{'.'.join(local)}" if local else "")


class BuildStamp(BuildHookInterface[Any]):
    """Adds the stamp to wheels and source distributions."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or (ROOT / STAMP).exists():
            return
        stamp = _of_build()
        self._directory = tempfile.TemporaryDirectory(prefix="ampd-build-stamp-")
        path = Path(self._directory.name) / "build_stamp.json"
        path.write_text(json.dumps(stamp, indent=2) + "\n")
        build_data["force_include"][str(path)] = STAMP


def _of_build() -> dict[str, str]:
    info: dict[str, str] = _load_build_info().of_build(ROOT, os.environ)
    return info


def _load_build_info() -> ModuleType:
    """Load `build_info.py` by its path: the package's dependencies are not installed in a build environment."""
    spec = importlib.util.spec_from_file_location("build_info", ROOT / "amp_workers" / "build_info.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
