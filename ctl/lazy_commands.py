"""Commands whose modules are imported on use: `ampctl` runs in shell loops, and one run needs one command."""

from collections.abc import Iterator, MutableMapping
from importlib import import_module

import click


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of a group, by name."""

    def __init__(self, places: dict[str, str]) -> None:
        """places: `module:attribute` of each command, the module within this package."""
        self._places = places
        self._imported: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._imported:
            module, _, attribute = self._places[name].partition(":")
            self._imported[name] = getattr(import_module(f"{__package__}.{module}"), attribute)
        return self._imported[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._imported[name] = command

    def __delitem__(self, name: str) -> None:
        self._places.pop(name, None)
        self._imported.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places | self._imported)

    def __len__(self) -> int:
        return len(self._places | self._imported)
