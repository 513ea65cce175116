"""A program for a worker to run: it reports progress each second. SIGUSR1 makes it exit with 1, SIGUSR2 with 0."""

import os
import signal
import socket
import sys
import time

signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0))
address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    while True:
        notify.sendto(b"WATCHDOG=1", f"\0{address[1:]}" if address[0] == "@" else address)
        time.sleep(1)
