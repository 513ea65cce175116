"""The one error of this room that a user can meet."""

from amp_workers.errors import AmpError


class ConfigError(AmpError):
    """A file, or a token, that configures a server cannot be used. The message names it and never shows a secret."""
