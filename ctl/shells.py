"""Completion in bash, zsh and fish, where Click's own breaks at `--state=`, a URL's colons and a list's commas."""

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
    """Gets the line as it was typed: bash's own words end at colons and equals signs, those of `http://` too."""

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
        """Return the script, without asking the machine's bash for its version as Click does."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and what there is of that."""
        line = os.environ["COMP_WORDS"]
        _, *words = split_arg_string(line)
        return (words[:-1], words[-1]) if words and not line[-1].isspace() else (words, "")


class _WholeWords(ShellComplete):
    """For shells to which `--state=lost` is one word: they replace all of it, so that an item has to have all of it."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what the word that is being typed may become."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):  # Click completes the value alone
            for item in items:
                item.value = f"{option}={item.value}"
        return items


@add_completion_class
class WholeWordZsh(_WholeWords, ZshComplete):
    """Has Click's own script, whose words end at spaces alone."""


@add_completion_class
class WholeItemFish(_WholeWords, FishComplete):
    """Takes all after the first comma of an item: a value or its description may have commas of its own."""

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
