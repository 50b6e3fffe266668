"""Failures that pass: the same command, given again later, may succeed."""

# EX_TEMPFAIL of sysexits.h. launch/ repeats a command that ends with it.
STATUS = 75


class TryAgainError(RuntimeError):
    """A command that ends early through no fault of its input, with nothing lost."""
