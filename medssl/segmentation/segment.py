"""Learn to outline structures from few masks, with and without the pretrained encoder.

OUT/
    metrics.json          split, leakage, Dice scores with intervals, comparisons; all notes
    cases.parquet         every score; see `medssl.segmentation.cases.CASES_SCHEMA`
    examples.npz          some test cases as they were outlined; see `medssl.segmentation.examples`
    manifest.parquet      the images with masks, `split` as it was used
    config.yaml           the configuration, resolved
    segmenter.*           the network with the most masks; see `medssl.segmentation.kept`
"""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medssl.config import SegmentConfig
from medssl.encoder import build_spec_backbone, load_encoder, unfinished
from medssl.fewlabels.groups import IntArray
from medssl.fewlabels.results_text import results_text
from medssl.manifest import write_manifest
from medssl.run_folder import RunFolder
from medssl.run_images import plan_store
from medssl.segmentation.cases import Outcome, TestCases
from medssl.segmentation.cohort import MaskedCohort, gather_cohort
from medssl.segmentation.examples import draw_examples
from medssl.segmentation.kept import TrainedSegmenter
from medssl.segmentation.masked_images import MaskedImages
from medssl.segmentation.trials import Bench, Kept, run_trials
from medssl.volumes.samples import as_slices
from sslcore.config import dump_config
from sslcore.console import Progress
from sslcore.device import build_fabric
from sslcore.errors import ConfigError
from sslcore.files import require_new_folder, whole_folder
from sslcore.tables import write_parquet
from sslcore.training.settings import RunConfig

_DECISION = (
    "each pixel goes to its most likely class; outlines are judged in the resolution of the files,"
    " a volume as a whole; a score counts where the mask has the class, and what is outlined where"
    " it has none stands in cases.parquet"
)
_VALIDATION = (
    "the moment to stop training is chosen on validation cases that shrink with the training cases,"
    " to no fewer than two; nothing is chosen on test cases"
)


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What was found.

    Attributes:
        out: The folder of the results.
        metrics: The content of metrics.json.
    """

    out: Path
    metrics: dict[str, Any]

    def table(self) -> str:
        """Return the Dice scores as lines of text, with what has to be known about them."""
        names = list(self.metrics["results"][0]["metrics"])
        rows = [("masks", "to learn + choose", "model", *names, "95 % interval")]
        for result in self.metrics["results"]:
            found = result["metrics"]
            low, high = found["dice"]["low"], found["dice"]["high"]
            rows.append(
                (
                    result["labels"],
                    f"{result['num_labels']} + {result['num_val_labels']}",
                    result["model"],
                    *(_told(found[name]["value"]) for name in names),
                    "not known" if low is None else f"{low:.3f} to {high:.3f}",
                )
            )
        return results_text(rows, self.metrics)


def segment(
    run: Path, config: SegmentConfig, out: Path, *, data: Path | None, progress: Progress
) -> SegmentResult:
    """Measure how well an encoder learns to outline, beside the same network from scratch.

    Args:
        run: Folder that pretraining made.
        config: What to try.
        out: New folder for the results; appears whole or not at all.
        data: Manifest with masks, or a folder; by default what the run was pretrained on.
        progress: Where the work stands.

    Raises:
        OutputError: `out` exists, or cannot be written.
        CheckpointError: The run has no encoder.
        ConfigError: It is of patches of volumes.
        DataError: Masks or split cannot be worked with; the message has the way out.
    """
    require_new_folder(out, way_out="give another name with --out")
    fabric = build_fabric(RunConfig(device=config.device))
    encoder = load_encoder(run, device=fabric.device)
    if encoder.spec.patches:
        raise ConfigError(
            f"{run}: outlines are learnt from whole volumes, and this encoder from patches of them;"
            " go on from it without patches, by medssl pretrain with --config"
            f" {run}/config.yaml --set data.patches=false --set backbone.weights={run}, and"
            " segment that run"
        )
    warning = unfinished(run)
    if warning:
        progress.note(warning)
    cohort = gather_cohort(RunFolder(run), config, data, progress)
    reading = RunFolder(run).read_config().data
    images = MaskedImages(
        cohort.manifest,
        encoder.spec,
        cohort.masks,
        cohort.classes,
        device=fabric.device,
        cache_gb=reading.cache_gb,
        store=plan_store(reading),
    )
    cohort = cohort.readable_only(images.prepare(progress))
    bench = Bench(
        images=images,
        split=cohort.split,
        cases=cohort.cases,
        pretrained=encoder.backbone,
        build_untrained=partial(build_spec_backbone, encoder.spec),
        fabric=fabric,
    )
    names, patients = cohort.named(bench.tested)
    test = TestCases(
        names, patients, cohort.classes.names, resamples=config.bootstrap, seed=config.seed
    )
    outcomes, kept = run_trials(bench, config, progress)
    metrics = _describe(run, config, cohort, warning) | _measured(test, outcomes)
    with whole_folder(out) as draft:
        (draft / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        (draft / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        write_parquet(test.table(outcomes), draft / "cases.parquet")
        write_manifest(as_slices(cohort.with_parts()), draft / "manifest.parquet")
        draw_examples(draft, kept, bench, names)
        _trained(kept, images, bench.cases).store(draft)
    return SegmentResult(out, metrics)


def _told(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _measured(test: TestCases, outcomes: list[Outcome]) -> dict[str, Any]:
    results, comparisons = test.evaluate(outcomes)
    return {
        "interval": test.describe_interval(),
        "results": results,
        "comparisons": comparisons,
    }


def _trained(kept: Kept, images: MaskedImages, cases: IntArray) -> TrainedSegmenter:
    about = {
        "model": kept.model,
        "labels": str(kept.budget),
        "fraction": kept.budget.fraction,
        "shots": kept.budget.shots,
        "num_labels": len(np.unique(cases[kept.train])),
    }
    return TrainedSegmenter(kept.network, images.spec, images.classes.names, about)


def _describe(
    run: Path, config: SegmentConfig, cohort: MaskedCohort, warning: str | None
) -> dict[str, Any]:
    return {
        "task": "segmentation",
        "run": str(run.absolute()),
        "classes": list(cohort.classes.names),
        "mode": config.mode,
        "split": cohort.split.how,
        "data": {
            part: _describe_part(cohort, members) for part, members in cohort.split.parts().items()
        },
        "leakage": asdict(cohort.leakage),
        "decision": _DECISION,
        "validation": _VALIDATION,
        "notes": [*cohort.notes, *([warning] if warning else [])],
    }


def _describe_part(cohort: MaskedCohort, members: IntArray) -> dict[str, Any]:
    patients = cohort.manifest.rows["patient"].gather(members)
    return {
        "images": len(members),
        "cases": len(np.unique(cohort.cases[members])),
        "patients": None if patients.has_nulls() else patients.n_unique(),
    }
