"""Every error this project raises on purpose.

SSLError
    ShapeError        tensors that cannot be compared
    ConfigError       a run description that cannot be used
    OutputError       a result that cannot be written, or that would overwrite another
    CheckpointError   a file that is not a checkpoint of this run
    DivergedError     a loss or gradient that stopped being finite
    CollapseError     embeddings that no longer tell samples apart
    ProcessError      another process of the same run stopped

`medssl.errors` adds its errors below `SSLError`, so that the command line catches one class.
"""


class SSLError(Exception):
    """Root of the tree; the command line prints it without a traceback."""


class ShapeError(SSLError, ValueError):
    """Tensors whose shapes do not fit together."""


class ConfigError(SSLError, ValueError):
    """A run description with an unknown key or an impossible value."""


class OutputError(SSLError):
    """A result that cannot be written, or a place that already holds another result."""


class CheckpointError(SSLError):
    """A file that cannot be restored into this run."""


class DivergedError(SSLError, ArithmeticError):
    """Training produced a value that is not finite."""


class CollapseError(SSLError, ArithmeticError):
    """The encoder maps all samples to nearly the same embedding."""


class ProcessError(SSLError):
    """Another process of the same run stopped; its own message says why."""
