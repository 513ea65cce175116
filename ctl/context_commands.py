"""`ampctl context`: named Admin APIs."""

import click

from amp_workers.ctl.contexts import KEYS, all_contexts, directory, use_context
from amp_workers.ctl.options import complete_context
from amp_workers.ctl.render import shown
from amp_workers.ctl.settings import context_of, settings


@click.group("context")
def contexts() -> None:
    """Choose among several Admin APIs.

    A context is a table in ~/.config/ampctl/config.toml (or below $XDG_CONFIG_HOME). Its files are relative to that
    directory. The token's file must not be readable by others.

    \b
    Example of config.toml:
      [contexts.prod]
      admin_url = "https://amp.example.org:1610"
      auth_token_file = "prod.token"
      ca_file = "prod-ca.pem"

    An option precedes an environment variable, and that precedes a context; --context precedes AMP_ADMIN_URL, because
    it is an option. If --admin-url or AMP_ADMIN_URL is set and --context is not, no context is used.
    """


@contexts.command("list")
def list_contexts() -> None:
    """List the contexts; a star marks the one in use.

    \b
    Example:
      ampctl context list
    """
    found = all_contexts()
    if not found:
        click.echo(f"No contexts found in {directory() / 'config.toml'}", err=True)
    in_use = context_of(click.get_current_context().find_root())
    for name in sorted(found):
        click.echo(f"{'*' if name == in_use else ' '} {shown(name)}  {shown(found[name]['admin_url'])}")


@contexts.command("use")
@click.argument("name", shell_complete=complete_context)
def use(name: str) -> None:
    """Make a context the current one.

    \b
    Example:
      ampctl context use prod
    """
    use_context(name)
    click.echo(f"{shown(name)} is the current context.")


@contexts.command("show")
@click.pass_context
def show(context: click.Context) -> None:
    """Show the settings in use, and what each comes from.

    \b
    Example:
      ampctl --context prod context show
    """
    root = context.find_root()
    click.echo(f"context: {shown(context_of(root) or 'none')}")
    for key, setting in zip(KEYS, settings(root).values(), strict=True):
        if setting.value is not None:
            is_token = key == "auth_token_file"
            label, value = ("auth_token", "***") if is_token else (key, setting.value)
            click.echo(f"{label}: {shown(value)} ({shown(setting.source)})")
