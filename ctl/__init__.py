"""`ampctl`: a pure HTTP client of the Admin API."""
