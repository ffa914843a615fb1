"""The errors a user is meant to read: what was wrong, where, and what to do about it.

Each class carries the exit code of the command line. Anything else that escapes is a bug and exits 1.
"""


class LgsidError(Exception):
    """Base of every error with a message written for the user."""

    exit_code = 1


class ConfigError(LgsidError):
    """The configuration is refused: unknown key, wrong type, impossible combination."""

    exit_code = 2


class InputError(LgsidError):
    """The catalogue or the log cannot be used: file, row and column are in the message."""

    exit_code = 3


class GateError(LgsidError):
    """A stage's result is too poor to build on (for example a reward model no better than chance)."""

    exit_code = 4


class StorageError(LgsidError):
    """The run directory cannot be used: corrupt manifest or checkpoint, no space left, no permission."""

    exit_code = 5
