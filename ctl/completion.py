"""`ampctl completion`."""

import click

VARIABLE = "_AMPCTL_COMPLETE"
"""The environment variable by which a shell's script requests completions."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def print_completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    The script completes commands, options, states and node ids. Node ids come from the API; if it does not respond
    within a second, none are completed.

    \b
    Examples:
      eval "$(ampctl completion bash)"     # in ~/.bashrc
      eval "$(ampctl completion zsh)"      # in ~/.zshrc, after compinit
      ampctl completion fish > ~/.config/fish/completions/ampctl.fish
    """
    from click.shell_completion import get_completion_class

    import amp_workers.ctl.shells  # noqa: F401 - registers itself

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(context.find_root().command, {}, "ampctl", VARIABLE).source(), nl=False)
