"""Contexts: the Admin API in use, its credentials, and refused files."""

import subprocess
from pathlib import Path

import pytest

from tests.ctl.contract_api import ContractApi
from tests.processes import free_port, run, run_ampctl

TOKEN = "s3cret-t0ken"


class Home:
    """A configuration directory for one test."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "ampctl"
        self.directory.mkdir()

    def write(self, config: str, token: str | bytes = f"{TOKEN}\n", mode: int = 0o600) -> None:
        (self.directory / "config.toml").write_text(config)
        file = self.directory / "prod.token"
        file.write_bytes(token if isinstance(token, bytes) else token.encode())
        file.chmod(mode)

    def ampctl(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run_ampctl(*arguments, env={"XDG_CONFIG_HOME": str(self.directory.parent), **env})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def prod(home: Home, contract_api: ContractApi) -> Home:
    """A context `prod` with a token."""
    contract_api.token = f"Bearer {TOKEN}"
    home.write(f'[contexts.prod]\nadmin_url = "{contract_api.url}"\nauth_token_file = "prod.token"\n')
    return home


def test_a_context_is_chosen_by_option_environment_or_use(prod: Home) -> None:
    assert prod.ampctl("--context", "prod", "worker", "list").returncode == 0
    assert prod.ampctl("worker", "list", AMPCTL_CONTEXT="prod").returncode == 0
    assert prod.ampctl("context", "list").stdout.startswith("  prod  http://")
    used = prod.ampctl("context", "use", "prod")
    assert (used.returncode, used.stdout) == (0, "prod is the current context.\n")
    assert prod.ampctl("worker", "list").returncode == 0
    assert prod.ampctl("context", "list").stdout.startswith("* prod  http://")


@pytest.mark.slow
def test_the_order_is_option_environment_context(prod: Home, contract_api: ContractApi) -> None:
    prod.ampctl("context", "use", "prod")
    elsewhere = f"http://127.0.0.1:{free_port()}"
    for done in (
        prod.ampctl("--admin-url", elsewhere, "worker", "list"),
        prod.ampctl("worker", "list", AMP_ADMIN_URL=elsewhere),
        prod.ampctl("worker", "list", AMP_ADMIN_URL=elsewhere, AMPCTL_CONTEXT="prod"),
    ):
        assert f"cannot reach the Admin API at {elsewhere}" in done.stderr
    assert contract_api.asked == []
    assert prod.ampctl("--context", "prod", "worker", "list", AMP_ADMIN_URL=elsewhere).returncode == 0
    wrong = prod.ampctl("worker", "list", AMP_AUTH_TOKEN="another")
    assert (wrong.returncode, "the token was refused" in wrong.stderr) == (1, True)


def test_the_token_of_a_context_is_sent_only_to_its_url(prod: Home, contract_api: ContractApi) -> None:
    prod.ampctl("context", "use", "prod")
    prod.ampctl("worker", "list", AMP_ADMIN_URL=contract_api.url)
    prod.ampctl("--admin-url", contract_api.url, "worker", "list")
    assert contract_api.authorizations == [None, None]


def test_show_has_each_setting_and_its_source_and_no_token(prod: Home, contract_api: ContractApi) -> None:
    done = prod.ampctl("--context", "prod", "context", "show")
    assert done.stdout.splitlines() == [
        "context: prod",
        f"admin_url: {contract_api.url} (context prod)",
        f"auth_token: *** (context prod, {prod.directory / 'prod.token'})",
    ]
    other = prod.ampctl("context", "show", AMP_AUTH_TOKEN=TOKEN)
    assert other.stdout.splitlines() == [
        "context: none",
        "admin_url: http://localhost:1610 (default)",
        "auth_token: *** (AMP_AUTH_TOKEN)",
    ]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666, 0o620])
def test_a_token_that_others_can_read_is_refused(prod: Home, contract_api: ContractApi, mode: int) -> None:
    (prod.directory / "prod.token").chmod(mode)
    done = prod.ampctl("--context", "prod", "worker", "list")
    assert done.returncode == 2
    assert f"has the permissions {mode:04o}, with which others can read the token" in done.stderr
    assert contract_api.asked == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (f"\ufeff{TOKEN}", "begins with a byte order mark (U+FEFF)"),
        ("", "is empty"),
        ("two words", "has a character that is invalid in a token"),
        (TOKEN.encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_named(prod: Home, token: str | bytes, message: str) -> None:
    content = token if isinstance(token, bytes) else token.encode()
    (prod.directory / "prod.token").write_bytes(content)
    done = prod.ampctl("--context", "prod", "worker", "list")
    assert done.returncode == 2
    assert "prod.token" in done.stderr
    assert message in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[contexts.prod", "is not TOML: "),
        ("[contexts.prod]", "[contexts.prod] has no admin_url"),
        ("[contexts]\nprod = 1", "[contexts.prod] is not a table"),
        ("[context.prod]", "'context' is unexpected"),
        ("contexts = 1", "'contexts' is unexpected"),
        ('[contexts.prod]\nadmin_url = "http://a"\nca-file = "x"', "unknown key 'ca-file'"),
        ('[contexts.prod]\nadmin_url = "http://a"\nauth_token = "x"', "name its file with auth_token_file"),
        ("[contexts.prod]\nadmin_url = 5", "admin_url is not a string"),
        ('[contexts.prods]\nadmin_url = "http://a"', "known are prods. Did you mean 'prods'?"),
        ("", "none is defined"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(home: Home, config: str, message: str) -> None:
    home.write(config)
    for done in (home.ampctl("--context", "prod", "worker", "list"), home.ampctl("context", "use", "prod")):
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert message in done.stderr
    # A command with --admin-url does not read the configuration.
    url = f"http://127.0.0.1:{free_port()}"
    assert "cannot reach the Admin API" in home.ampctl("--admin-url", url, "worker", "list").stderr


def test_files_are_relative_to_the_configuration(home: Home, tmp_path: Path) -> None:
    home.write('[contexts.prod]\nadmin_url = "https://127.0.0.1:1"\nca_file = "ca.pem"\nclient_cert = "~/c.pem"\n')
    shown = home.ampctl("--context", "prod", "context", "show", HOME=str(tmp_path))
    assert f"ca_file: {home.directory / 'ca.pem'} (context prod)" in shown.stdout
    assert f"client_cert: {tmp_path / 'c.pem'} (context prod)" in shown.stdout


def test_without_a_configuration_there_are_no_contexts(home: Home) -> None:
    done = home.ampctl("context", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"No contexts found in {home.directory / 'config.toml'}\n"


def test_a_choice_that_cannot_be_written_is_an_error(prod: Home) -> None:
    (prod.directory / "current-context").mkdir()
    done = prod.ampctl("context", "use", "prod")
    assert done.returncode == 2
    assert f"cannot write {prod.directory / 'current-context'}: Is a directory" in done.stderr


def test_the_home_directory_is_the_default(prod: Home, tmp_path: Path) -> None:
    (tmp_path / ".config").mkdir()
    prod.directory.rename(tmp_path / ".config" / "ampctl")
    for value in ("", "relative"):
        done = run("ampctl", "context", "list", env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": value}, cwd=tmp_path)
        assert done.stdout.startswith("  prod  "), done.stderr
