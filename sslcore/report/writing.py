"""How numbers and lists are written in a report."""

from sslcore.report.measures import Measure

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def count(number: int, singular: str, plural: str = "") -> str:
    """Return `1 patient`, `2,951 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def decimals(value: float | None) -> str:
    """Return three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return three decimals with their sign (a real minus), or a dash."""
    return DASH if value is None else f"{value:+.3f}".replace("-", MINUS)


def interval(measure: Measure, *, with_sign: bool = False) -> str:
    """Return both ends, or nothing if there is no interval."""
    if measure.low is None or measure.high is None:
        return ""
    if with_sign:
        return f"{signed(measure.low)} to {signed(measure.high)}"
    return f"{decimals(measure.low)} {DASH} {decimals(measure.high)}"


def percent(share: float) -> str:
    """Return a share as whole per cent: `7 %`, without a line break inside."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def capital(text: str) -> str:
    """Begin with a capital letter, and leave the others alone."""
    return text[:1].upper() + text[1:]


def listed(items: list[str]) -> str:
    """Return `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
