"""Listen addresses from flags, and the sockets bound to them."""

import socket

import click
import pytest

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.web.server.listen import peer_address
from tests.processes import free_port


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("127.0.0.1:1610", "127.0.0.1", 1610, "http://127.0.0.1:1610"),
        ("[::1]:9610", "::1", 9610, "http://[::1]:9610"),
        (":9610", "0.0.0.0", 9610, "http://0.0.0.0:9610"),  # noqa: S104
        ("amp.example.org:80", "amp.example.org", 80, "http://amp.example.org:80"),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, url: str) -> None:
    address = ListenAddress.parse(text)
    assert (address.host, address.port, address.url) == (host, port, url)


@pytest.mark.parametrize("text", ["", "1610", "127.0.0.1", "127.0.0.1:", "h:0", "h:65536", "h:http", "::1:9610", "h:٣"])
def test_a_malformed_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        ListenAddress.parse(text)


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ListenAddress("127.0.0.1", taken.getsockname()[1])
        in_use = f"cannot listen on 127.0.0.1:{address.port}: Address already in use. Choose another with --flag"
        with pytest.raises(click.ClickException, match=in_use):
            address.listen("--flag")
    with address.listen("--flag") as listener:
        assert listener.getsockname() == (address.host, address.port)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 50_000), "192.0.2.1"),
        (("2001:db8::1", 50_000, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 50_000, 0, 0), "192.0.2.1"),
    ],
)
def test_a_client_has_one_address_however_the_server_listens(name: tuple[str, int], address: str) -> None:
    assert peer_address(name) == address


def test_no_answer_waits_for_the_acknowledgement_of_its_head() -> None:
    with ListenAddress("127.0.0.1", free_port()).listen("--flag") as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with client, accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
