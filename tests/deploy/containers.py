"""Containers by buildah and podman, with no daemon, no registry, and a storage that is removed after the tests.

Both run as root. Chroot isolation, the storage driver vfs, runc and cgroupfs work in a virtual machine and in a
container with few privileges.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.clusters import remove
from tests.memory import memory
from tests.processes import ROOT, eventually, tool

_ENVIRONMENT = {
    "BUILDAH_ISOLATION": "chroot",
    # dpkg, which debootstrap runs, would otherwise sync each file to disk.
    "DPKG_FORCE": "unsafe-io",
}

_ROOTFS = ROOT / ".tools" / "python-base.tar"
_PACKAGES = "python3,python3-venv,ca-certificates"
_CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")

_ROOM = 12 * 2**30
"""Bytes, a multiple of what the base, the image and all containers take: the driver vfs copies each layer."""

_TRIES = 3
"""A mirror or an index that fails once may respond 15 s later."""

_SECONDS = 600


class Engine:
    """Builds images and runs containers. All their files are in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Passed as an option, because podman passes its options on to the process that cleans up after a container.
        driver = ["--storage-driver", "vfs"]
        self._storage = [*driver, "--root", str(directory / "storage"), "--runroot", str(directory / "run")]
        podman = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--tmpdir", str(directory / "tmp")]
        self._podman = [tool("podman"), *self._storage, *podman]
        self._buildah = [tool("buildah"), *self._storage]
        tool("runc")

    @property
    def builder(self) -> str:
        """Return the build command, for a shell."""
        return " ".join(self._buildah)

    def podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(*self._podman, *arguments)

    def inspect(self, image: str) -> dict[str, Any]:
        (found,) = json.loads(self.podman("image", "inspect", image).stdout)
        described: dict[str, Any] = found
        return described

    def make_base(self, image: str) -> None:
        """Build a stand-in for the official Python image, under its name: Debian with its Python, and nothing else."""
        if not _ROOTFS.exists():
            _retry(_make_rootfs)
        container = _checked(*self._buildah, "from", "scratch").strip()
        _checked(*self._buildah, "add", "--quiet", container, str(_ROOTFS), "/")
        _checked(*self._buildah, "commit", "--quiet", "--rm", container, image)

    def build(self, *command: str) -> None:
        """Run a command that builds an image."""
        _retry(lambda: _checked(*command))

    def start(self, name: str, image: str, options: Sequence[str], command: Sequence[str]) -> "Container":
        # Podman's default limits are above those of the machine that the tests may run on.
        limits = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
        started = self.podman("run", "--detach", "--name", name, "--network=host", *limits, *options, image, *command)
        assert started.returncode == 0, started.stderr
        return Container(self, name)

    def end(self) -> None:
        """Remove all containers, and wait for the processes that clean up after them."""
        self.podman("rm", "--all", "--force", "--time", "0")
        eventually(lambda: not self._processes(), 60)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # the container has ended
                if any(str(self._directory) in argument for argument in process.cmdline()):
                    found.append(process)
        return found


class Container:
    """A container that is running or has ended."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self.name = engine, name

    @property
    def output(self) -> str:
        logs = self._engine.podman("logs", self.name)
        return logs.stdout + logs.stderr

    def wait(self) -> int:
        """Return the exit code, after the container has ended."""
        return int(self._engine.podman("wait", self.name).stdout)

    def stop(self) -> int:
        """Send SIGTERM, as an orchestrator does, and return the exit code."""
        stopped = self._engine.podman("stop", "--time", "60", self.name)
        assert stopped.returncode == 0, stopped.stderr
        return self.wait()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return self._engine.podman("exec", self.name, *command)

    def is_healthy(self) -> bool:
        """Run the health check once."""
        return self._engine.podman("healthcheck", "run", self.name).returncode == 0

    def says(self, text: str) -> None:
        def look() -> bool:
            assert text in self.output, self.output
            return True

        eventually(look, 60)


@contextmanager
def engine() -> Iterator[Engine]:
    """Yield an engine, and remove its images and containers afterwards."""
    if os.geteuid() != 0:
        reason = "only root can build the base image with debootstrap"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    tool("debootstrap")
    # This directory keeps the paths of the containers' sockets short.
    directory = Path(tempfile.mkdtemp(prefix="amp-containers-", dir=memory(_ROOM)))
    made = Engine(directory)
    try:
        yield made
    finally:
        made.end()
        remove(directory)


def _make_rootfs() -> None:
    with tempfile.TemporaryDirectory(prefix="amp-rootfs-", dir=memory(_ROOM)) as name:
        root = Path(name) / "root"
        _checked("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root))
        (root / "usr/bin/python").symlink_to("python3")
        # The machine's own certificates: they may contain an authority that Debian does not have.
        shutil.copy(Path("/") / _CERTIFICATES, root / _CERTIFICATES)
        _ROOTFS.parent.mkdir(exist_ok=True)
        unfinished = _ROOTFS.with_suffix(".unfinished")
        _checked("tar", "-C", str(root), "-cf", str(unfinished), ".")
        unfinished.rename(_ROOTFS)


def _retry(attempt: Callable[[], object]) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            attempt()
        except AssertionError:
            if not tries_left:
                raise
            time.sleep(15)
        else:
            return


def _checked(*command: str) -> str:
    done = _run(*command)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | _ENVIRONMENT,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
