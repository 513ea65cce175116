"""`python -m amp_workers.ampd`: the same as `ampd`."""

from amp_workers.ampd.cli import main

main()
