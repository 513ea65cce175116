"""`ampctl context`: named Admin APIs."""

from typing import TYPE_CHECKING, Any

import click

from amp_workers.ctl.contexts import KEYS, InvalidContext, all_contexts, directory, use_context
from amp_workers.ctl.render import shown
from amp_workers.ctl.settings import context_of, settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class ContextType(click.ParamType[str]):
    """The name of a context."""

    name = "context"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - Click's signature
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - Click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        try:
            names = sorted(all_contexts())
        except InvalidContext:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


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

    The order is: option, environment, context. --context is an option: it comes before AMP_ADMIN_URL. Where the URL is
    of an option or of AMP_ADMIN_URL alone, no context is used.
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
@click.argument("name", type=ContextType())
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
