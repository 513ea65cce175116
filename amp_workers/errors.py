"""The base class of the project's exceptions. It belongs to no room, because rooms do not import each other."""


class AmpError(Exception):
    """Something that a user can meet went wrong. The message is one line: what is wrong, where, and what to do."""
