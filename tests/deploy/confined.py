"""Run a command under a unit's system call filter, as far as possible without systemd: `confined.py UNIT COMMAND…`.

A forbidden system call kills the process here, where systemd would return EPERM: a command that succeeds makes no
forbidden call.
"""

import ctypes
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
PR_SET_NO_NEW_PRIVS = 38


class Comparison(ctypes.Structure):
    """libseccomp's `scmp_arg_cmp`."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def service(unit: Path) -> dict[str, list[str]]:
    """The values of each setting of a unit's [Service]."""
    settings: dict[str, list[str]] = {}
    section = unit.read_text().partition("[Service]")[2].partition("\n[")[0]
    for line in section.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def members(group: str) -> set[str]:
    """Return the system calls of a group such as @system-service, by name."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")[1:]
    names = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return set().union(*(members(name) for name in names))


def allowed(filters: list[str]) -> set[str]:
    """Return the system calls that `SystemCallFilter=` allows: an allow list, without the calls that a deny list
    removes.
    """
    calls = members("@default")
    for each in filters:
        groups = set().union(*(members(group) for group in each.removeprefix("~").split()))
        calls = calls - groups if each.startswith("~") else calls | groups
    return calls


def confine(settings: dict[str, list[str]]) -> None:
    """Load the filter into this process. Its children inherit it."""
    calls = allowed(settings["SystemCallFilter"])
    families = [int(getattr(socket, name)) for name in settings["RestrictAddressFamilies"][0].split()]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The services write no files. The size limit does not apply to pipes and sockets.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.umask(int(settings["UMask"][0], 8))

    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(KILL_PROCESS)))

    def allow(name: str, *comparisons: tuple[int, int, int, int]) -> None:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # system calls of another architecture or kernel
            array = (Comparison * len(comparisons))(*(Comparison(*each) for each in comparisons))
            added = seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), number, len(comparisons), array)
            assert added == 0, (name, added)

    for name in sorted(calls - {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat"}):
        allow(name)
    for family in families:
        allow("socket", (0, EQUAL, family, 0))
    # MemoryDenyWriteExecute=: no page is both writable and executable, and none becomes executable later.
    allow("mmap", (2, MASKED_EQUAL, PROT_EXEC, 0))
    allow("mmap", (2, MASKED_EQUAL, PROT_WRITE | PROT_EXEC, PROT_EXEC))
    allow("mprotect", (2, MASKED_EQUAL, PROT_EXEC, 0))
    assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(service(Path(sys.argv[1])))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
