"""Errors of use: shown as one line on stderr, with exit code 2."""


class UsageError(Exception):
    """What was asked cannot be done as asked: the message says what, where, and what is accepted."""
