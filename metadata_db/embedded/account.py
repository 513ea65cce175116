"""The operating system account of the embedded PostgreSQL, which refuses to run as root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FOR_ROOT = "nobody"


@dataclass(frozen=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def can_enter(self, path: Path) -> bool:
        """Whether this account can access the entries of a directory.

        A process of the account asks the kernel: access lists and mount options are not visible in the mode.
        """
        if self.is_ours:
            return os.access(path, os.X_OK)
        test = subprocess.run(
            ["/usr/bin/test", "-x", str(path)], user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False
        )
        return test.returncode == 0


def account() -> Account:
    """Return the account of this process, or `nobody` for root: it exists on every Unix and owns no files.

    No account is created: a first try of the product must not change the users of the machine.
    """
    entry = pwd.getpwnam(_FOR_ROOT) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
