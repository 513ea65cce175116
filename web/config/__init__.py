"""The web configuration file, and files that are read again when they change."""
