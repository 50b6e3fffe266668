"""Checks of an installation and its machine, each with the command that fixes it."""
