"""The policy of a server: TLS, users, tokens and headers, as its operator has configured them."""

import logging
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from amp_workers.web.auth.tokens import check_token, digests, read_tokens
from amp_workers.web.config.watched import ConfigError, ReadFile, Watched
from amp_workers.web.config.web_config import WebConfig

_RELOAD_SECONDS = 1.0

_log = logging.getLogger("amp_workers.web")


class Policy:
    """Settings from files, which are read again when they change.

    exposed: whether other machines can reach the server. A changed file, perhaps a mistake, does not remove what
    protects an exposed server; only a restart does. tokens: their hashes. last_reload_success: a Unix time.
    """

    exposed = False
    config = WebConfig()
    tokens: Sequence[bytes] = ()

    def __init__(
        self, web_config_file: Path | None = None, token_file: Path | None = None, token: str | None = None
    ) -> None:
        """token: one that needs no file. Raises ConfigError where a file, or the token, cannot be used."""
        self._web_config_file, self._token_file, self._token = web_config_file, token_file, token
        self._watched = Watched(self._read_tokens), Watched(self._read_config)
        self.last_reload_success = time.time()

    @property
    def last_reload_successful(self) -> bool:
        return all(each.error is None for each in self._watched)

    def reload(self) -> None:
        """Read the files again that changed."""
        if sum(each.reload() for each in self._watched):
            if self.last_reload_successful:
                self.last_reload_success = time.time()
            self._warn_of_readable_secrets()

    def keep_reloading(self) -> NoReturn:
        """Reload once a second. It needs a thread of its own: a file system may hang."""
        while True:
            time.sleep(_RELOAD_SECONDS)
            self.reload()

    def warn_of_weaknesses(self, name: str) -> None:
        """Log what protects a server less than possible. name: the server's."""
        self._warn_of_readable_secrets()
        has_tls = self.config.tls is not None
        if self.exposed and not (self.tokens or self.config.authenticates):
            _log.warning(
                "%s is open to every client that can reach this machine%s: configure users or client certificates in "
                "a --web.config.file, or listen on 127.0.0.1",
                name,
                "" if has_tls else ", with neither TLS nor authentication",
            )
        elif self.exposed and not has_tls:
            _log.warning(
                "%s receives passwords and tokens unencrypted over the network: configure a certificate, "
                "tls_server_config in a --web.config.file, or use a proxy with TLS",
                name,
            )

    def _warn_of_readable_secrets(self) -> None:
        for path in (self._token_file, self.config.key_file):
            with suppress(FileNotFoundError):  # it is being replaced
                if path is not None and path.stat().st_mode & stat.S_IROTH:
                    _log.warning("%s can be read by every account of this machine: chmod 600", path)

    def _read_tokens(self, read_file: ReadFile) -> None:
        fixed = [] if self._token is None else [check_token(self._token, "AMP_AUTH_TOKEN")]
        self.tokens = digests([*fixed, *(read_tokens(self._token_file, read_file) if self._token_file else ())])

    def _read_config(self, read_file: ReadFile) -> None:
        if self._web_config_file is None:
            return
        from amp_workers.web.config.reader import read_web_config  # loads PyYAML, 4 MB

        config = read_web_config(self._web_config_file, read_file)
        removed = [each for each in self.config.protections if each not in config.protections]
        lost = ["TLS"] * ("TLS" in removed)
        if self.config.authenticates and not (self.tokens or config.authenticates):
            lost.append("all authentication")
        if self.exposed and lost:
            raise ConfigError(
                f"{self._web_config_file}: the change removes {' and '.join(lost)} from a server that other "
                "machines can reach: restart it if that is intended"
            )
        for protection in removed:
            _log.warning("%s: %s no longer protects this server", self._web_config_file, protection)
        self.config = config
