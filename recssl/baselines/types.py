"""What the baselines' modules pass to each other."""

from collections.abc import Mapping

Settings = Mapping[str, float | int]
