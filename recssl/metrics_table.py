"""metrics.json as lines of text."""

from collections.abc import Mapping
from typing import Any

_WIDTH = 12


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Return one line per method, with recall and NDCG at every k, and what has to be known.

    Args:
        metrics: The content of metrics.json; see `recssl.evaluate`.
    """
    protocol = metrics["protocol"]
    columns = [f"{name}@{k}" for k in protocol["ks"] for name in ("recall", "ndcg")]
    head = f"{'method':<14}" + "".join(f"{name:>{_WIDTH}}" for name in columns)
    lines = [head + f"{'coverage':>{_WIDTH}}"]
    last = protocol["ks"][-1]
    for model in metrics["models"]:
        values = [model["metrics"][name]["value"] for name in columns]
        values.append(model["lists"][f"coverage@{last}"])
        lines.append(f"{model['name']:<14}" + "".join(f"{value:>{_WIDTH}.4f}" for value in values))
    lines.append(
        f"{protocol['part']} part, {protocol['users']:,} users, {protocol['ranked']} ranked,"
        f" seen in {' and '.join(protocol['masked'])} masked"
    )
    lines += _new_users(metrics)
    lines += [f"left out: {entry['reason']}" for entry in metrics["left_out"]]
    return "\n".join(lines)


def _new_users(metrics: Mapping[str, Any]) -> list[str]:
    """Say how users without a learnt interaction were treated, where there are any."""
    protocol, lines = metrics["protocol"], []
    new, unknown = (
        protocol.get(key, 0) for key in ("users_without_history", "users_unknown_left_out")
    )
    if new:
        ways = {model["name"]: model.get("new_users") for model in metrics["models"]}
        told = "; ".join(f"{name} {how}" for name, how in ways.items() if how)
        lines.append(f"{new:,} of the users were not learnt from, and scored by {told}")
    if unknown:
        lines.append(f"left out: {unknown:,} users of whom nothing is known")
    return lines
