"""`python -m ampd`: the same as `ampd`."""

from ampd.cli import main

main()
