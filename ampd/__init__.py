"""The `ampd` command, which wires the rooms together."""
