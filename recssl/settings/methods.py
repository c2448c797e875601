"""Methods by the name that papers give them: all settings that together make one."""

from collections.abc import Mapping
from typing import Any

from sslcore.config import Default, suggest
from sslcore.errors import ConfigError

_Preset = Mapping[str, Any]


# At 0.002, the default, these stay near the SVD start for some hundred steps, or a contrast beside
# BPR undoes it first. A softmax with in-batch negatives learns at once, and on a small log less at
# 0.01.
_FAST: _Preset = {"optim.learning_rate": Default(0.01)}


def _ranking(name: str, **sampling: str) -> _Preset:
    """Name the settings of a ranking loss alone."""
    chosen = {f"sampling.{key}": value for key, value in sampling.items()}
    return {"ranking": {"name": name}, "contrast": None, **chosen}


def _on_graph(name: str, **encoder: bool) -> _Preset:
    """Name the settings of a contrast on the graph, beside BPR as in its paper."""
    chosen = {f"encoder.{key}": value for key, value in encoder.items()}
    return {
        **_ranking("bpr", negatives="uniform"),
        **_FAST,
        "contrast": {"name": name},
        "encoder.name": "lightgcn",
        "views.perturb": "auto",
        **chosen,
    }


def _beside(name: str, **settings: int) -> _Preset:
    """Name the settings of a method of the core, beside whatever ranking loss there is."""
    return {"contrast": {"name": name, **settings}}


METHODS: Mapping[str, _Preset] = {
    "bpr": {**_ranking("bpr", negatives="uniform"), **_FAST},
    "infonce": _ranking("sampled_softmax"),
    # in-batch candidates come by popularity and take it out of the scores, uniform ones do not
    "bsl": _ranking("bilateral_softmax", negatives="shared"),
    # mining finds what a user likes, of which half the nearest items are on a small log
    "triplet": _ranking("triplet", mask="positives"),
    "directau": {**_ranking("direct_au", negatives="in_batch"), **_FAST},
    "sgl": _on_graph("sgl"),
    "simgcl": _on_graph("simgcl", skip_input=True),
    "xsimgcl": _on_graph("xsimgcl", skip_input=True),
    "lightgcl": _on_graph("lightgcl"),
    # its code weighs sums over 4096 pairs by 1e-7 to 1e-6, which is 0.0004 to 0.004 of their mean
    "ncl": {**_on_graph("ncl"), "contrast_weight": Default(0.01)},
    "buir": {**_ranking("buir", negatives="in_batch"), **_FAST},
    "selfcf": {**_ranking("selfcf", negatives="in_batch"), **_FAST},
    "barlow_twins": _beside("barlow_twins"),
    "vicreg": _beside("vicreg"),
    "moco": _beside("moco_v2", queue_size=4096),  # of a batch of 2048 all users may differ
    "byol": _beside("byol"),
    "simclr": _beside("simclr"),
    "simsiam": _beside("simsiam"),
}

_OTHER_NAMES = {  # as the settings have them
    "sampled_softmax": "infonce",
    "bilateral_softmax": "bsl",
    "direct_au": "directau",
    "moco_v2": "moco",
}


def method_preset(name: str | None) -> _Preset:
    """Return the settings behind a name, dotted key to value; none for None.

    Raises:
        ConfigError: An unknown name.
    """
    if name is None:
        return {}
    preset = METHODS.get(_OTHER_NAMES.get(name, name))
    if preset is None:
        raise ConfigError(f"--method: unknown {name!r}; {suggest(name, list(METHODS))}")
    return preset
