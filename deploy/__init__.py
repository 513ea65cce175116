"""What is built to be installed elsewhere. Each module is one command of the Makefile."""
