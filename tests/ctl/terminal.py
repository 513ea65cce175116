"""A command in a terminal: its output, its input, and the attributes of the terminal."""

import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Mapping
from typing import Any

from tests.processes import clean_environment, eventually, tool


class Terminal:
    """A process with a new controlling terminal."""

    def __init__(self, *command: str, env: Mapping[str, str], rows: int = 24, columns: int = 120) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.attributes: list[Any] = termios.tcgetattr(slave)
        environment = clean_environment() | {"TERM": "xterm-256color", "NO_COLOR": ""} | dict(env)
        self.popen = subprocess.Popen(
            [tool("setsid"), "--ctty", *command], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        self._slave = slave
        self._written = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65_536)
            except OSError:  # closed
                return
            self._written += piece

    @property
    def output(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def attributes_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def says(self, text: str, times: int = 1) -> None:
        def look() -> bool:
            assert self.output.count(text) >= times, f"no {text!r} in {self.output!r}"
            return True

        eventually(look)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._slave, (rows, columns))

    def signal(self, number: int) -> None:
        os.kill(self.popen.pid, number)

    def wait(self) -> int:
        """Wait for the end of the process, and until all its output has been read."""
        returned = self.popen.wait(30)
        os.write(self._slave, b"<end>")
        self.says("<end>")
        self._written = self._written.replace(b"<end>", b"")
        return returned

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
            self.popen.wait()
        os.close(self._slave)
        # Not before the reading thread has ended: the next terminal could get the same descriptor.
        self._reading.join(10)
        if not self._reading.is_alive():
            os.close(self._master)
