"""Completion in a real bash and a real zsh with the Tab key, and in a real fish."""

import socket
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.ctl.conftest import StartTerminal
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.processes import free_port, run, run_ampctl, tool

pytestmark = pytest.mark.slow


def choices(url: str, line: str, env: Mapping[str, str]) -> list[str]:
    """Return bash's completions of a line."""
    asked = {"AMP_ADMIN_URL": url, "_AMPCTL_COMPLETE": "bash_complete", "COMP_WORDS": line}
    done = run_ampctl(env=asked | dict(env))
    assert (done.returncode, done.stderr) == (0, "")
    return [item.partition(",")[2] for item in done.stdout.splitlines() if item.startswith("plain,")]


Completed = Callable[[str, str], list[str]]


@pytest.fixture
def completed(patient: dict[str, str]) -> Completed:
    """Return the completions, with a long timeout."""
    return partial(choices, env=patient)


def test_node_ids_are_those_of_the_api(completed: Completed, api_url: str) -> None:
    assert completed(api_url, "ampctl worker inspect epsilon-") == ["epsilon-10", "epsilon-9"]
    assert completed(api_url, "ampctl worker get ") == ["beta", "delta", "epsilon-10", "epsilon-9", "gamma", "zeta"]
    assert completed(api_url, "ampctl worker check beta --max-age 3s be") == []  # already on the line
    assert completed(api_url, "ampctl worker inspect 9") == []


def test_a_complete_node_id_is_listed_with_longer_ones(completed: Completed) -> None:
    with serving(ContractApi([a_worker(name) for name in ("worker-1", "worker-10", "worker-2")])) as api:
        assert completed(api.url, "ampctl worker inspect worker-1") == ["worker-1", "worker-10"]
        assert api.asked == ["GET /workers?limit=200&after=worker-1", "GET /workers/worker-1"]


def test_an_invalid_node_id_is_not_completed(completed: Completed) -> None:
    with serving(ContractApi([a_worker(name) for name in ("a$(reboot)", "a;b", "a b", "a\nb", "ab")])) as api:
        assert completed(api.url, "ampctl worker inspect ") == ["ab"]


def test_the_options_on_the_line_are_used(completed: Completed, contract_api: ContractApi) -> None:
    contract_api.token = "Bearer s3cret"
    line = f"ampctl --auth-token=s3cret --admin-url {contract_api.url} worker forget gam"
    assert completed(f"http://127.0.0.1:{free_port()}", line) == ["gamma"]


def test_commands_options_and_states_are_completed(completed: Completed) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert completed(url, "ampctl wor") == ["worker"]
    assert completed(url, "ampctl worker ") == ["check", "describe", "forget", "inspect", "jobs", "list"]
    assert completed(url, "ampctl worker list --s") == ["--state", "--sort"]
    assert completed(url, "ampctl worker list --state lost,st") == ["lost,stale", "lost,stuck", "lost,stopped"]
    assert completed(url, "ampctl worker list --state=act") == ["active"]
    assert completed(url, "ampctl worker list --wide -o ") == ["text", "wide", "json", "jsonl", "csv", "name"]
    assert completed(url, "ampctl worker inspect --wide --") == ["--help"]
    assert completed(url, "ampctl completion ") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("away", ["refuses", "silent", "unauthorized", "no URL", "not safe"])
def test_an_unavailable_api_gives_no_completions_and_no_output(contract_api: ContractApi, away: str) -> None:
    urls = {"refuses": f"http://127.0.0.1:{free_port()}", "no URL": "nonsense", "not safe": "http://amp.invalid"}
    contract_api.silent = away == "silent"
    contract_api.token = "Bearer another"
    env = {"AMP_AUTH_TOKEN": "s3cret"}
    env |= {"AMP_ADMIN_URL": urls.get(away, contract_api.url), "COMP_WORDS": "ampctl worker inspect b"}
    done = run_ampctl(env=env | {"_AMPCTL_COMPLETE": "bash_complete"})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_completion_does_not_wait_for_an_api_that_hangs(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert choices(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", "ampctl worker inspect b", {}) == []


def test_the_tab_key_in_a_real_bash(
    contract_api: ContractApi, terminal: StartTerminal, patient: dict[str, str]
) -> None:
    env = patient | {"PS1": "ready> ", "INPUTRC": "/dev/null", "HISTFILE": ""}
    shell = terminal(tool("bash"), "--norc", "--noprofile", "-i", url=contract_api.url, env=env)
    shell.says("ready> ")
    shell.type('bind "set enable-bracketed-paste off"; eval "$(ampctl completion bash)"; echo loa""ded\r')
    shell.says("loaded")
    shell.type("ampctl worker inspect gam\t")
    shell.says("ampctl worker inspect gamma ")
    shell.type("| head -1\r")
    shell.says("Node ID: gamma")
    shell.type(f"ampctl --admin-url {contract_api.url} worker insp\tdel\t| tail -1; echo en''d\r")
    shell.says("ampctl --admin-url " + contract_api.url + " worker inspect delta ")
    shell.says("end")
    shell.type("ampctl worker list --state=sto\t; exit\r")
    shell.says("ampctl worker list --state=stopped")
    assert shell.wait() == 0


ZSHRC = """\
PS1='ready> '
HISTFILE=
autoload -Uz compinit && compinit -u -D
eval "$(ampctl completion zsh)"
tell() { print -r -- "«$BUFFER»" }
zle -N tell
bindkey '^T' tell
"""
"""Ctrl-T prints the line: the redraw after the Tab key is hard to parse."""


def zshrc(zsh: str) -> str:
    # An unpacked zsh does not find its modules. Of its paths, it reads only the one of its functions from the
    # environment.
    root = Path(zsh).parents[1] / "root" / "usr"
    modules = " ".join(str(path) for path in root.glob("lib/*/zsh/*"))
    functions = " ".join(str(path) for path in root.glob("share/zsh/functions/**") if path.is_dir())
    return f"module_path=({modules})\nfpath=({functions})\n{ZSHRC}" if modules else ZSHRC


def test_the_tab_key_in_a_real_zsh(
    contract_api: ContractApi, terminal: StartTerminal, patient: dict[str, str], tmp_path: Path
) -> None:
    zsh = tool("zsh")
    (tmp_path / ".zshrc").write_text(zshrc(zsh))
    env = patient | {"ZDOTDIR": str(tmp_path)}
    shell = terminal(zsh, "--no-global-rcs", "-i", url=f"http://127.0.0.1:{free_port()}", env=env)
    shell.says("ready> ")
    url = contract_api.url
    for typed, becomes in (
        (f"ampctl --admin-url {url} worker inspect gam", "gamma "),
        (f"ampctl --admin-url={url} worker insp", "inspect "),
        (f"ampctl --admin-url={url} worker inspect eps", "epsilon-"),
        ("ampctl worker list --state lost,sto", "lost,stopped "),
        ("ampctl worker list --state=lost,sto", "--state=lost,stopped "),
        ("ampctl worker list --sort=las", "--sort=last-seen "),
    ):
        shell.type(f"{typed}\t\x14")
        shell.says(f"«{typed.rpartition(' ')[0]} {becomes}»")
        shell.type("\x15")
    shell.type(f"ampctl --admin-url {url} worker inspect del\t| head -1; exit\r")
    shell.says("Node ID: delta")
    assert shell.wait() == 0


def test_in_a_real_fish(contract_api: ContractApi, patient: dict[str, str], tmp_path: Path) -> None:
    lines = ("inspect eps", "list --state lost,st", "list --state=lost,sto", "ch")
    asks = "; ".join(f"complete -C 'ampctl --admin-url {contract_api.url} worker {line}'" for line in lines)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = run(tool("fish"), "--no-config", "-c", f"ampctl completion fish | source; {asks}", env=patient | home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("epsilon-10", "epsilon-9", "lost,stale", "lost,stuck", "lost,stopped", "--state=lost,stopped"),
        "check\tCheck that workers are alive, by exit code.",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_printed_with_no_api_and_asks_ampctl(shell: str) -> None:
    done = run_ampctl("--admin-url", "nonsense", "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_AMPCTL_COMPLETE={shell}_complete" in done.stdout
    if shell == "bash":
        subprocess.run([tool("bash"), "-n"], input=done.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("shell", "environment", "expected"),
    [
        (
            "zsh",
            {"COMP_WORDS": "ampctl worker inspect eps", "COMP_CWORD": "3"},
            "plain\nepsilon-10\n_\nplain\nepsilon-9\n_\n",
        ),
        (
            "fish",
            {"COMP_WORDS": "ampctl worker inspect eps", "COMP_CWORD": "eps"},
            "plain,epsilon-10\nplain,epsilon-9\n",
        ),
    ],
)
def test_other_shells_get_node_ids_in_their_own_format(
    contract_api: ContractApi, patient: dict[str, str], shell: str, environment: dict[str, str], expected: str
) -> None:
    env = {"AMP_ADMIN_URL": contract_api.url, "_AMPCTL_COMPLETE": f"{shell}_complete"}
    assert run_ampctl(env=patient | env | environment).stdout == expected
