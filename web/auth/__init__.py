"""Authentication: users, tokens and client certificates."""
