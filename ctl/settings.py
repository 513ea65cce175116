"""Where the Admin API is and how to authenticate: from options, the environment, and a context."""

from typing import Any, NamedTuple

import click
from click.core import ParameterSource

_OPTIONS = {
    "url": ("--admin-url", "AMP_ADMIN_URL", "admin_url"),
    "auth_token": ("--auth-token", "AMP_AUTH_TOKEN", "auth_token_file"),
    "ca_file": ("--ca-file", "AMP_CA_FILE", "ca_file"),
    "client_cert": ("--client-cert", "AMP_CLIENT_CERT", "client_cert"),
    "client_key": ("--client-key", "AMP_CLIENT_KEY", "client_key"),
}
"""Of each setting: its option, its environment variable, and its key in a context."""


class Setting(NamedTuple):
    """One value and its source."""

    value: str | None
    source: str


def settings(root: click.Context) -> dict[str, Setting]:
    """Return the settings by the names of the root command's parameters.

    The order is: option, environment, context. A context that is named by an option comes before the environment, as
    that option is more explicit. The credentials of a context are sent to its own URL only, unless options name
    both the context and another URL.

    Raises:
        InvalidContext: the context cannot be used.
    """
    found: dict[str, Setting] = {}
    for name, (option, variable, _) in _OPTIONS.items():
        names = {ParameterSource.COMMANDLINE: option, ParameterSource.ENVIRONMENT: variable}
        found[name] = Setting(root.params[name], names.get(_source(root, name), "default"))
    context = context_of(root)
    if context is None:
        return found
    from amp_workers.ctl.contexts import context_named, token_in

    by_option = _source(root, "context") is ParameterSource.COMMANDLINE
    values = context_named(context)
    for name, (option, variable, key) in _OPTIONS.items():
        if key in values and found[name].source not in ({option} if by_option else {option, variable}):
            value = token_in(values[key]) if name == "auth_token" else values[key]
            source = f"context {context}" + (f", {values[key]}" if name == "auth_token" else "")
            found[name] = Setting(value, source)
    return found


def context_of(root: click.Context) -> str | None:
    """Return the context that is in use: of the option, of the environment, or the current one; None without one."""
    if _source(root, "context") is ParameterSource.COMMANDLINE:
        name: str = root.params["context"]
        return name
    if _source(root, "url") in {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}:
        return None
    # Not before: `ampctl` starts faster without pathlib.
    from amp_workers.ctl.contexts import current_context

    return root.params["context"] or current_context()


def _source(root: click.Context, name: str) -> Any:
    return root.get_parameter_source(name)
