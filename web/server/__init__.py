"""The HTTP server: listening sockets, connections, requests, responses."""
