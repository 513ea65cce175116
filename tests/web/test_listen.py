import socket

import pytest

from amp_workers.web import AddressInUse, ListenAddress
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
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        ListenAddress.parse(text)


def test_an_address_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ListenAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(AddressInUse, match=f"cannot listen on 127.0.0.1:{address.port}: Address already in use"):
            address.listen()
    with address.listen() as listener:
        assert listener.getsockname() == (address.host, address.port)


def test_no_answer_waits_for_the_acknowledgement_of_its_head() -> None:
    with ListenAddress("127.0.0.1", free_port()).listen() as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with client, accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
