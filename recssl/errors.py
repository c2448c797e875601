"""Errors of the recommender domain.

SSLError
    LogError         a log that cannot be read, or that leaves nothing to learn from
    DatasetError     a folder that is no data set, or not the one of this run
    UnknownIdError   a user or item that the data set does not know
"""

from sslcore.errors import SSLError


class LogError(SSLError, ValueError):
    """A log, or a part of it, that cannot be used."""


class DatasetError(SSLError):
    """A folder that holds no data set, a damaged one, or another one than was expected."""


class UnknownIdError(SSLError, LookupError):
    """A user or item that is not in the data set."""
