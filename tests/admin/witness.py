"""A relay in front of a running Admin API, which checks each response against the description."""

import contextlib
import gzip
import http.client
import http.server
import threading
from collections.abc import Iterator

from tests.admin.contract import assert_described, named

_OF_A_CONNECTION = {"connection", "host"}


@contextlib.contextmanager
def witness(port: int) -> Iterator[int]:
    """Relay from the returned port to an Admin API on another port. Each request has its own connection.

    Raises, at the end: AssertionError: for the first response that is not described.
    """
    problems: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            # One request per connection: the client notices the end of a server at its next request.
            self.close_connection = True
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            # If the server closes the connection or does not listen, the relay closes the client's connection.
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                connection.putheader("Host", f"127.0.0.1:{port}")
                for name, value in self.headers.items():
                    if name.lower() not in _OF_A_CONNECTION:
                        connection.putheader(name, value)
                connection.endheaders(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                answer = connection.getresponse()
                self._pass_on(answer, answer.read())

        def _pass_on(self, answer: http.client.HTTPResponse, body: bytes) -> None:
            self._hold_against_description(answer, body)
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _hold_against_description(self, answer: http.client.HTTPResponse, body: bytes) -> None:
            shown = gzip.decompress(body) if body and answer.headers["Content-Encoding"] == "gzip" else body
            path = self.path.partition("?")[0]
            try:
                assert_described(self.command, path, answer.status, named(answer.getheaders()), shown)
            except AssertionError as error:
                problems.append(str(error))

        do_GET = do_HEAD = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True  # a relayed request may wait for a server that is frozen

        def handle_error(self, *_: object) -> None:
            """A closed connection is not an error of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
    assert not problems, problems[0]
