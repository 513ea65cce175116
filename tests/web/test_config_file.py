"""Each key of a web configuration file, with valid and invalid values."""

import base64
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from amp_workers.web.config.reader import read_web_config
from amp_workers.web.config.watched import ConfigError
from amp_workers.web.config.web_config import WebConfig
from tests.web.conftest import Authority
from tests.web.servers import TLS

RSA_SUITE = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.fixture(autouse=True)
def certificates(authority: Authority) -> None:
    """Write server.pem, server.key and ca.pem next to the file."""
    authority.server()


def read(directory: Path, text: str) -> WebConfig:
    file = directory / "web.yml"
    file.write_text(text)
    return read_web_config(file)


NEED_EACH_OTHER = "client_ca_file and client_auth_type: RequireAndVerifyClientCert need each other"

NULLS = """\
tls_server_config: ~
http_server_config: {headers: null, http2: Null}
basic_auth_users: NULL
rate_limit: {interval: ~, burst: ~}
"""


@pytest.mark.parametrize("text", ["", "# nothing\n", "tls_server_config:\nbasic_auth_users:\n", "{}", NULLS])
def test_a_file_without_settings_changes_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == WebConfig()


@pytest.mark.parametrize("curve", ["X25519", "CurveP256", "CurveP384", "CurveP521"])
def test_a_curve_is_selected_or_refused_by_its_name(tmp_path: Path, authority: Authority, curve: str) -> None:
    """Python's ssl module determines which curves exist."""
    text = TLS + f"  curve_preferences: [{curve}]\n"
    if curve == "X25519" and sys.version_info < (3, 11, 4):
        with pytest.raises(ConfigError, match=r"curve_preferences: Python 3\.11\.\d cannot select X25519"):
            read(tmp_path, text)
    else:
        assert read(tmp_path, text).tls is not None


def test_everything_that_is_supported_is_read(tmp_path: Path, authority: Authority) -> None:
    config = read(
        tmp_path,
        TLS
        + f"""\
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {authority.file}
  client_allowed_sans: [prometheus.example.org, "10.0.0.1"]
  min_version: TLS13
  max_version: TLS13
  prefer_server_cipher_suites: true
  cipher_suites: []
  curve_preferences: [CurveP256]
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    X-Content-Type-Options: nosniff
    X-Frame-Options: deny
    X-XSS-Protection: ""
    Content-Security-Policy: default-src 'none'
rate_limit:
  interval: 0s
  burst: 20
basic_auth_users:
  alice: {HASH}
  007: {HASH}
  on: {HASH}
""",
    )
    assert config.tls is not None
    assert config.tls.verify_mode == ssl.CERT_REQUIRED
    assert config.tls.minimum_version == config.tls.maximum_version == ssl.TLSVersion.TLSv1_3
    assert config.client_allowed_sans == ["prometheus.example.org", "10.0.0.1"]
    assert config.headers == {
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "deny",
        "Content-Security-Policy": "default-src 'none'",
    }
    assert list(config.users) == ["alice", "007", "on"]
    assert config.key_file == tmp_path / "server.key"


def test_null_in_quotes_is_a_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls_server_config must be a mapping"):
        read(tmp_path, 'tls_server_config: "~"\n')
    assert list(read(tmp_path, f"basic_auth_users:\n  null: {HASH}\n").users) == ["null"]


def test_paths_are_relative_to_the_files_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert read(tmp_path, TLS).key_file == tmp_path / "server.key"


def test_certificates_may_be_in_the_file_itself(tmp_path: Path, authority: Authority) -> None:
    def inline(key: str, file: Path) -> str:
        return f"  {key}: |\n" + "".join(f"    {line}\n" for line in file.read_text().splitlines())

    text = "tls_server_config:\n" + inline("cert", tmp_path / "server.pem") + inline("key", tmp_path / "server.key")
    config = read(tmp_path, text)
    beside = read(tmp_path, TLS)
    assert config.tls is not None
    assert (config.key_file, beside.key_file) == (tmp_path / "web.yml", tmp_path / "server.key")
    both = read(
        tmp_path, text + "  client_auth_type: RequireAndVerifyClientCert\n" + inline("client_ca", authority.file)
    )
    assert both.requires_certificates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls_config:\n", "tls_config is not a key of a web configuration file"),
        (TLS + "  key_fil: x\n", "tls_server_config.key_fil is not a key"),
        ("http_server_config:\n  http3: true\n", "http_server_config.http3 is not a key"),
        ("- a\n", "the document must be a mapping"),
        ("tls_server_config: yes\n", "tls_server_config must be a mapping"),
        ("basic_auth_users:\n  a: [1]\n", "basic_auth_users.a must be a text"),
        ("a: [\n", "line 2: "),
        ("? [a]\n: b\n", "line 1: a key must be a printable text"),
        ("a: *hunter2\n", "line 1: found undefined alias '…'"),
        ("a: !hunter2!x y\n", "line 1: found undefined tag handle '…'"),
        ("a: &hunter2 x\nb: &hunter2 y\n", "line 2: second occurrence"),
        (TLS.replace("server.key", "|\n    hunter2\n    hunter3"), "key_file: No such file or directory"),
        (TLS.replace("server.key", "hunter2"), "key_file: No such file or directory"),
        (TLS.replace("server.pem", "|\n    hunter2\n    hunter3"), "cert_file: No such file or directory"),
        ("[" * 3000, "nested too deeply"),
        (TLS.replace("server.pem", '"a\\0b"'), "cert contains a character that it cannot have"),
        (TLS.replace("server.key", '"\\ud800"'), "key contains a character that it cannot have"),
        (TLS.replace("cert_file: server.pem", 'cert: "\\ud800"'), "cert contains a character that it cannot have"),
        ('basic_auth_users:\n  "\\udfff": hunter2\n', "line 2: a key must be a printable text"),
        (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n", "line 3: a is defined twice"),
        ("tls_server_config:\n  min_version: TLS13\n", "tls_server_config needs cert_file and key_file"),
        ("tls_server_config:\n  cert_file: server.pem\n", "tls_server_config needs cert_file and key_file"),
        (TLS + "  cert: x\n", "tls_server_config.cert and cert_file are both given"),
        (TLS.replace("server.pem", "nowhere.pem"), "nowhere.pem: No such file or directory"),
        (TLS.replace("server.pem", "."), "Is a directory"),
        (TLS.replace("server.key", "elsewhere"), "elsewhere: Is a directory"),
        (TLS.replace("server.pem", "server.key"), "server.key: contains no certificate in PEM form"),
        (TLS.replace("server.key", "server.pem"), "server.pem: contains no private key in PEM form"),
        (
            TLS + "  min_version: TLS10\n",
            "tls_server_config.min_version: 'TLS10' is not supported: RFC 8996",
        ),
        (TLS + "  max_version: TLS11\n", "tls_server_config.max_version: 'TLS11' is not supported"),
        (TLS + "  max_version: TLS14\n", "tls_server_config.max_version: 'TLS14' is not one of TLS12, TLS13"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12\n", "tls_server_config.max_version is older than"),
        (TLS + "  prefer_server_cipher_suites: 3\n", "prefer_server_cipher_suites: '3' is not true or false"),
        (TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", "'TLS_AES_128_GCM_SHA256' is not one of TLS_ECDHE"),
        (TLS + f"  cipher_suites: [{RSA_SUITE}]\n", "server.key: OpenSSL cannot use them: NO_SHARED_CIPHER"),
        (TLS + f"  cipher_suites: [{RSA_SUITE}]\n  min_version: TLS13\n", "cipher_suites needs TLS 1.2"),
        (TLS + "  cipher_suites: TLS_AES_128_GCM_SHA256\n", "tls_server_config.cipher_suites must be a list of texts"),
        (TLS + "  curve_preferences: [P-256]\n", "tls_server_config.curve_preferences: 'P-256' is not one of X25519"),
        (TLS + "  curve_preferences: [X25519, CurveP256]\n", "curve_preferences has more than one curve"),
        (
            TLS + "  client_allowed_sans: [a]\n",
            "client_allowed_sans needs client_auth_type: RequireAndVerify",
        ),
        (TLS + "  client_allowed_sans: a\n", "tls_server_config.client_allowed_sans must be a list of texts"),
        (TLS + "  client_allowed_sans: [[a]]\n", "tls_server_config.client_allowed_sans must be a list of texts"),
        (TLS + "  client_allowed_sans: ['']\n", "tls_server_config.client_allowed_sans must be a list of texts"),
        (
            TLS + "  client_auth_type: RequireAndVerifyClientCert\n",
            NEED_EACH_OTHER,
        ),
        (
            TLS + "  client_ca_file: ca.pem\n",
            NEED_EACH_OTHER,
        ),
        (TLS + "  client_auth_type: RequestClientCert\n", "'RequestClientCert' is not supported"),
        (TLS + "  client_auth_type: RequireAnyClientCert\n", "'RequireAnyClientCert' is not supported"),
        (TLS + "  client_auth_type: RequireClientCert\n", "'RequireClientCert' is not supported"),
        (
            TLS + "  client_auth_type: VerifyClientCertIfGiven\n",
            NEED_EACH_OTHER,
        ),
        (
            TLS + "  client_auth_type: Sometimes\n",
            "'Sometimes' is not one of NoClientCert, VerifyClientCertIfGiven, ",
        ),
        ("http_server_config:\n  http2: maybe\n", "http_server_config.http2: 'maybe' is not true or false"),
        ("http_server_config:\n  headers:\n    X-Other: a\n", "http_server_config.headers.X-Other is not a key"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: allow\n", "'allow' is not one of deny, sameorigin"),
        ('http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nb: c"\n', "one line of printable ASCII"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: é\n", "one line of printable ASCII"),
        ("rate_limit:\n  burst: some\n", "rate_limit.burst: 'some' is not a number"),
        ("rate_limit:\n  bursts: 1\n", "rate_limit.bursts is not a key"),
        ("rate_limit:\n  burst: -1\n", "rate_limit.burst: '-1' is not a number"),
        (f"basic_auth_users:\n  alice: {HASH.replace('$2y$', '$2$')}\n", "alice: not a bcrypt hash"),
        ("basic_auth_users:\n  alice: ~\n", "alice: not a bcrypt hash"),
        ("rate_limit:\n  interval: 1s\n", "rate_limit.interval: '1s' is not supported"),
        ("basic_auth_users:\n  alice: hunter2\n", "basic_auth_users.alice: not a bcrypt hash"),
        (f"basic_auth_users:\n  'a:b': {HASH}\n", "line 2: a key must be a printable text without a colon"),
        (f"basic_auth_users:\n  alice: {HASH}x\n", "alice: not a bcrypt hash"),
        ("basic_auth_users:\n  alice: " + HASH.replace("$10$", "$1\u0660$") + "\n", "alice: not a bcrypt hash"),
        (f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$31$')}\n", "a bcrypt cost of 31 is not from 4 to 15"),
        (f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$16$')}\n", "a bcrypt cost of 16 is not from 4 to 15"),
        (f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$03$')}\n", "a bcrypt cost of 03 is not from 4 to 15"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    error = str(raised.value)
    assert error.startswith(f"{tmp_path / 'web.yml'}: ")
    assert message in error
    assert "\n" not in error
    assert "hunter2" not in error


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yml: No such file or directory"):
        read_web_config(tmp_path / "none.yml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"web\.yml: not YAML$"):
        read_web_config(tmp_path / "web.yml")


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
@pytest.mark.parametrize("key_type", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
def test_a_key_may_have_any_common_format(
    tmp_path: Path, authority: Authority, key_type: trustme.KeyType, form: PrivateFormat
) -> None:
    _, file = authority.server(key_type=key_type)
    key = load_pem_private_key(file.read_bytes(), None)
    # As `openssl ecparam -genkey` writes a key: with the curve's parameters before it.
    before = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    file.write_bytes(before + key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert read(tmp_path, TLS).tls is not None


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, authority: Authority) -> None:
    authority.server("other")
    with pytest.raises(ConfigError, match=r"key_file: .*other\.key: this is not the key of the certificate in"):
        read(tmp_path, TLS.replace("server.key", "other.key"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("06082a8648ce3d030107", "06082a8648ce3d03017f"), ("0342000", "0342007")],
    ids=["another curve", "no point of the curve"],
)
def test_an_invalid_certificate_is_refused(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "server.pem"
    encoded = ssl.PEM_cert_to_DER_cert(file.read_text()).hex()
    assert old in encoded
    file.write_text(ssl.DER_cert_to_PEM_cert(bytes.fromhex(encoded.replace(old, new))))
    with pytest.raises(ConfigError, match=r"cert_file: .*server\.pem"):
        read(tmp_path, TLS)


def test_a_key_of_an_unknown_curve_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "server.key"
    key = load_pem_private_key(file.read_bytes(), None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    odd = key.hex().replace("06082a8648ce3d030107", "06082a8648ce3d03017f")
    text = base64.encodebytes(bytes.fromhex(odd)).decode()
    file.write_text(f"-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"server\.key: OpenSSL cannot use them"):
        read(tmp_path, TLS)


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def self_signed(
    directory: Path,
    key: Key,
    encryption: KeySerializationEncryption | None = None,
) -> None:
    """Write a certificate and its key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    (directory / "server.pem").write_bytes(builder.sign(key, digest).public_bytes(Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    )


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        (ec.generate_private_key(ec.SECP256R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ec.generate_private_key(ec.SECP521R1()), True),
        (ed25519.Ed25519PrivateKey.generate(), True),
        (ed448.Ed448PrivateKey.generate(), True),
        (rsa.generate_private_key(65537, 2048), True),
        (rsa.generate_private_key(65537, 1024), False),  # noqa: S505
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519", "Ed448", "RSA-2048", "RSA-1024"],
)
def test_a_key_is_valid_if_openssl_accepts_it(tmp_path: Path, key: Key, taken: bool) -> None:
    self_signed(tmp_path, key)
    if taken:
        assert read(tmp_path, TLS).tls is not None
        return
    with pytest.raises(ConfigError, match=r"server\.pem, .*server\.key: OpenSSL cannot use them: EE_KEY_TOO_SMALL"):
        read(tmp_path, TLS)


def test_the_authorities_of_client_certificates_are_checked_as_well(tmp_path: Path) -> None:
    clients = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    assert read(tmp_path, clients).tls is not None
    for rubbish in ("rubbish", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"):
        (tmp_path / "ca.pem").write_text(rubbish)
        with pytest.raises(ConfigError, match=r"client_ca_file: .*ca\.pem: "):
            read(tmp_path, clients)


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    self_signed(tmp_path, ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"hunter2"))
    with pytest.raises(ConfigError, match="the key is encrypted"):
        read(tmp_path, TLS)


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    assert "PRIVATE" not in repr(read(tmp_path, TLS))
