"""Who may ask a server, and over what: the settings of its operator."""

import logging
import stat
from pathlib import Path

from amp_workers.web.certificates import Tls
from amp_workers.web.config_file import WebConfig, WebConfigError, read_web_config
from amp_workers.web.protection import authenticates, taken_away
from amp_workers.web.tokens import TokenError, Tokens, check_token, read_tokens
from amp_workers.web.watched import Watched

_log = logging.getLogger("amp_workers.web")


class SecurityError(Exception):
    """A server would not be as safe as its operator asked for; the message says which file or variable is wrong."""


class Security:
    """TLS, users, tokens and headers, from files that are read again when they change."""

    def __init__(
        self, web_config_file: Path | None = None, token_file: Path | None = None, token: str | None = None
    ) -> None:
        """token: one that needs no file.

        Raises:
            SecurityError: a file, or the token, cannot be used.
        """
        self.exposed = False
        """Whether others than this machine reach the server. What protects it from them is not taken away by a file
        that changes, perhaps by mistake, but by a restart alone."""
        self._web_config_file = web_config_file
        self._token_file = token_file
        try:
            fixed = [] if token is None else [check_token(token, "AMP_AUTH_TOKEN")]
            self._tokens = Watched(
                lambda: Tokens([*fixed, *(read_tokens(token_file) if token_file else ())]),
                lambda _: [token_file] if token_file else [],
                TokenError,
            )
            self._config = Watched(
                lambda: WebConfig() if web_config_file is None else read_web_config(web_config_file),
                lambda config: config.files | ({web_config_file} if web_config_file else set()),
                WebConfigError,
                self._accept,
            )
        except (WebConfigError, TokenError) as error:
            raise SecurityError(str(error)) from error

    def look(self, *, tell: bool) -> bool:
        """Read again what changed, and return whether anything did. tell: log what happened."""
        before = self.config
        changed = [watched.look(tell=tell) for watched in (self._config, self._tokens)]
        for protection in taken_away(before, self.config) if tell else ():
            _log.warning(
                "%s: %s protected this server before, and does not any more", self._web_config_file, protection
            )
        return any(changed)

    @property
    def config(self) -> WebConfig:
        """What the web configuration file says: one value, that fits together, at each moment."""
        return self._config.value

    @property
    def tls(self) -> Tls | None:
        return self.config.tls

    @property
    def tokens(self) -> Tokens:
        return self._tokens.value

    @property
    def authenticates(self) -> bool:
        """Whether anybody has to show who they are."""
        return bool(self.tokens) or authenticates(self.config)

    def secrets_open_to_all(self) -> list[Path]:
        """The files with keys or tokens in them that any account may read."""
        secrets = (self._token_file, self.config.key_file)
        return [path for path in secrets if path is not None and _is_open_to_all(path)]

    def _accept(self, before: WebConfig, now: WebConfig) -> None:
        """Let one configuration follow another, unless the server would be open to others than this machine."""
        if not self.exposed:
            return
        lost = "TLS" if before.tls is not None and now.tls is None else None
        if self.authenticates and not (self.tokens or authenticates(now)):
            lost = "all authentication" if lost is None else f"{lost} and all authentication"
        if lost is not None:
            raise WebConfigError(
                f"{self._web_config_file}: it takes {lost} from a server that others than this machine reach: restart "
                "it if that is meant"
            )


def _is_open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # it is being replaced
        return False
