"""Hatchling build hook: stamps the version, the commit and the date of the build into what is built.

The stamp is `amp_workers/worker/build_stamp.json`, an object with the four keys of a worker's `info`. A source
distribution carries its stamp along, so that a wheel made from it, without git, still names its commit.
An editable install gets none: `build_info` asks git each time instead.
"""

import importlib.util
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STAMP = "amp_workers/worker/build_stamp.json"


class BuildStamp(BuildHookInterface[Any]):
    """Adds the stamp to wheels and source distributions."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        if (root / STAMP).exists():
            return
        build_info = _load_build_info(root)
        stamp = build_info.from_git(root) | {"build_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        self._directory = tempfile.TemporaryDirectory(prefix="ampd-build-stamp-")
        path = Path(self._directory.name) / "build_stamp.json"
        path.write_text(json.dumps(stamp, indent=2) + "\n")
        build_data["force_include"][str(path)] = STAMP


def _load_build_info(root: Path) -> ModuleType:
    """Load the worker's `build_info.py` by its path: a build environment lacks what the room itself imports."""
    spec = importlib.util.spec_from_file_location("build_info", root / "amp_workers" / "worker" / "build_info.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
