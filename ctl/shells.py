"""Completion in bash, zsh and fish. Click's own fails at `--state=`, at a URL's colons and at a list's commas."""

import os
from typing import ClassVar

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)


@add_completion_class
class WholeLineBash(BashComplete):
    """Reads the line as it was typed: bash's own words end at colons, as in `http://`, and at equals signs."""

    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local IFS=$'\\n' item
    COMPREPLY=()
    for item in $(COMP_WORDS="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        case "$item" in
            plain,*) COMPREPLY+=("${item#plain,}") ;;
            file,*) compopt -o default ;;
            dir,*) compopt -o dirnames ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        """Return the script. Click would run bash to read its version."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the incomplete one, and that one."""
        line = os.environ["COMP_WORDS"]
        _, *words = split_arg_string(line)
        return (words[:-1], words[-1]) if words and not line[-1].isspace() else (words, "")


class _WholeWords(ShellComplete):
    """For shells in which `--state=lost` is one word: they replace the whole word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return the completions of the incomplete word."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):  # Click completes the value alone
            for item in items:
                item.value = f"{option}={item.value}"
        return items


@add_completion_class
class WholeWordZsh(_WholeWords, ZshComplete):
    """Uses Click's own script, in which words end at spaces only."""


@add_completion_class
class WholeItemFish(_WholeWords, FishComplete):
    """Splits an item at its first comma: a value can have commas of its own."""

    source_template: ClassVar[str] = """\
function %(complete_func)s
    for item in (env COMP_WORDS=(commandline -cp | string collect) COMP_CWORD=(commandline -ct | string collect) \\
            %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l parts (string split --max 1 , -- $item)
        switch $parts[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --keep-order --command %(prog_name)s --arguments '(%(complete_func)s)'
"""
