"""The `ampd` command: it wires the rooms together and has no logic of its own."""
