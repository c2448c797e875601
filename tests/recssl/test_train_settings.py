from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.recssl.grouped_log import config, grouped_log


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return grouped_log(tmp_path / "data").folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ranking": {"name": "bpr"}}, "needs drawn negatives"),
        ({"sampling": {"negatives": "uniform", "log_q": 1.0}}, "corrects in-batch"),
        ({"sampling": {"negatives": "uniform", "mask": "positives"}}, "never liked"),
        (
            {"ranking": {"name": "direct_au"}, "sampling": {"negatives": "uniform"}},
            "has no negatives",
        ),
        ({"sampling": {"negatives": "shared", "log_q": 1.0}}, "these negatives are uniform"),
        ({"sampling": {"negatives": "shared", "mask": "positives"}}, "never liked"),
        ({"ranking": {"name": "bpr"}, "sampling": {"negatives": "shared"}}, "uniform"),
        ({"ranking": {"name": "triplet"}, "sampling": {"negatives": "shared"}}, "all rows"),
        ({"ranking": {"name": "bpr"}, "sampling": {"negatives": "mixed"}}, "uniform"),
        (
            {"ranking": {"name": "direct_au"}, "sampling": {"negatives": "mixed"}},
            "has no negatives",
        ),
        ({"sampling": {"queue": 63}}, "at least run.batch_size, 64"),
        ({"sampling": {"negatives": "uniform", "queue": 64}}, "draws for each row"),
        ({"ranking": {"name": "triplet"}, "sampling": {"queue": 64}}, "read the queue"),
        ({"ranking": {"name": "buir"}, "sampling": {"negatives": "hard"}}, "has no negatives"),
        ({"ranking": {"name": "selfcf"}, "sampling": {"queue": 64}}, "read the queue"),
        ({"ranking": {"name": "selfcf"}, "encoder": {"name": "towers"}}, "its predictor"),
        ({"ranking": {"name": "direct_au"}, "sampling": {"log_q": 1.0}}, "no logits"),
        ({"ranking": {"name": "direct_au"}, "sampling": {"mask": "positives"}}, "the mask"),
        ({"ranking": {"name": "triplet"}, "sampling": {"log_q": 1.0}}, "no logits"),
        ({"ranking": {"name": "bpr"}, "sampling": {"mask": "positives"}}, "needs drawn"),
        ({"contrast": {"name": "sgl"}}, "does not see the graph"),
        ({"contrast": {"name": "xsimgcl"}}, "lightgcn"),
        ({"contrast": {"name": "lightgcl"}}, "lightgcn"),
        ({"contrast": {"name": "simgcl"}, "views": {"perturb": "svd"}}, "does not see the graph"),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "lightgcl"},
                "views": {"perturb": "noise"},
            },
            "compares with the svd",
        ),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "xsimgcl"},
                "views": {"perturb": "svd"},
            },
            "takes one view",
        ),
        ({"contrast": {"name": "ncl"}}, "lightgcn"),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "ncl"},
                "views": {"perturb": "noise"},
            },
            "ncl, and no other, takes the graph as it is",
        ),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "sgl"},
                "views": {"perturb": "none"},
            },
            "ncl, and no other, takes the graph as it is",
        ),
        ({"encoder": {"name": "lightgcn"}, "contrast": {"name": "ncl", "layer": 3}}, "multiple"),
        ({"encoder": {"name": "towers"}, "contrast": {"name": "simgcl"}}, "no views"),
        ({"run": {"devices": 2}}, "one device"),
        ({"run": {"micro_batch": 64}}, r"micro_batch 64: embeddings are looked up"),
        ({"run": {"precision": "bf16-mixed"}}, "32-true"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    data: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        config(data, **changes)
