"""TLS of the server, with Python's `ssl` alone."""
