"""Settings of a MIRAX slide, `Slidedat.ini`: what is asked for has to be there, and plausible."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import Reason, UnreadableFileError

_MOST = 1e9  # more than any length in pixels or microns


@dataclass(frozen=True, slots=True)
class Slidedat:
    """The settings of a slide; names in messages are those of the format, values never appear.

    Attributes:
        path: Of the slide.
        sections: Values by section and key.
    """

    path: Path
    sections: Mapping[str, Mapping[str, str]]

    def text(self, section: str, key: str, default: str | None = None) -> str:
        """Return a value.

        Raises:
            UnreadableFileError: There is none, and no default.
        """
        value = self.sections.get(section, {}).get(key, default)
        if value is None:
            raise damaged(self.path, f"Slidedat.ini without {key}")
        return value

    def whole(self, section: str, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number from `low` to `high`.

        Raises:
            UnreadableFileError: It is none, or not in that range.
        """
        text = self.text(section, key, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError as error:
            raise damaged(self.path, f"{key} is no whole number") from error
        if not low <= value <= high:
            raise damaged(self.path, f"{key} is not from {low} to {high}")
        return value

    def number(self, section: str, key: str) -> float:
        """Return a number; 0 if there is none.

        Raises:
            UnreadableFileError: What is there is no number below a thousand million.
        """
        try:
            value = float(self.text(section, key, "0"))
        except ValueError as error:
            raise damaged(self.path, f"{key} is no number") from error
        if not abs(value) < _MOST:  # which NaN is not either
            raise damaged(self.path, f"{key} is no number below {_MOST:g}")
        return value


def read_slidedat(path: Path, text: str) -> Slidedat:
    """Read the text of a `Slidedat.ini`; lines of no known form are passed over."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.rstrip().endswith("]"):
            section = found.setdefault(line.strip()[1:-1], {})
        elif equals:
            section[key.strip()] = value.strip()
    return Slidedat(path, found)


def damaged(path: Path, detail: str) -> UnreadableFileError:
    """Return the error for what cannot be so in a slide."""
    return UnreadableFileError(path, Reason.CORRUPT, detail)
