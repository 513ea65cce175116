"""Listen addresses from flags, and the sockets bound to them."""

import socket

import click
import pytest

from amp_workers.ampd.listen_address import ListenAddress


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
