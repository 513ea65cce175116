"""The account that the embedded PostgreSQL runs as: PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FOR_ROOT = "nobody"


@dataclass(frozen=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def can_enter(self, path: Path) -> bool:
        """Whether this account can reach what lies in a directory.

        Asked of the kernel by a process of that account: modes alone do not tell (access lists, mount options).
        """
        if self.is_ours:
            return os.access(path, os.X_OK)
        asked = subprocess.run(
            ["/usr/bin/test", "-x", str(path)], user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False
        )
        return asked.returncode == 0


def account() -> Account:
    """Return our own account, or for root the one that exists on every Unix and owns nothing.

    No account is created: trying the product out must not change the machine's list of users.
    """
    entry = pwd.getpwnam(_FOR_ROOT) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
