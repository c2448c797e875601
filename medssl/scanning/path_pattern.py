"""A regular expression of the user's that finds something in the paths of files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from medssl.errors import DataError
from medssl.manifest_paths import decode_path, path_shape
from sslcore.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PathPattern:
    """What `option`, such as `--patient-pattern`, asks for; nothing without an expression."""

    option: str
    expression: re.Pattern[str] | None

    @classmethod
    def of(cls, option: str, text: str | None) -> Self:
        """Compile `text`.

        Raises:
            ConfigError: It is no regular expression, or has no group.
        """
        if text is None:
            return cls(option, None)
        try:
            compiled = re.compile(text)
        except re.error as error:
            raise ConfigError(f"{option} '{text}': {error}") from error
        if compiled.groups < 1:
            raise ConfigError(f"{option} '{text}': needs a group, such as 'P(\\d+)'")
        return cls(option, compiled)

    def find(self, path: str) -> str | None:
        """Return what the first group finds in a path as the manifest holds it; None if nothing."""
        found = self.expression.search(decode_path(path)) if self.expression else None
        return (found.group(1) or None) if found else None

    def require_matches(self, paths: Sequence[str]) -> None:
        """Say that a pattern is wrong before hours of reading, not after.

        Raises:
            DataError: It fits none of the paths.
        """
        if not self.expression or not paths:
            return
        if not any(self.expression.search(decode_path(path)) for path in paths):
            raise DataError(
                f"{self.option} '{self.expression.pattern}' fits none of {len(paths)} paths; they"
                f" look like {path_shape(paths[0])} (a for a letter, 9 for a digit)"
            )
