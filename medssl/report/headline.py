"""The first lines of a report: what was done, and what came out."""

from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.results import SCRATCH, Result, Results
from medssl.run_data import choose_backbone, training_rows
from sslcore.report import writing
from sslcore.report.comparing import verdict
from sslcore.report.parts import Tile

_USUAL_FRACTION = 0.1
_MOST_TILES = 4


def headline(inputs: Inputs) -> str:
    """Return the result in one line: at 10 % of the labels where there is such a result."""
    if not inputs.results:
        return f"{_method(inputs)} pretraining{_of_backbone(inputs)}"
    results = inputs.results
    labels = _typical_amount(results)
    ours = results.measure(labels, results.main_model, results.metric)
    if not ours:
        return f"{_method(inputs)} pretraining and what it is worth with few labels"
    name = words.METRICS[results.metric]
    text = f"With {words.amount(labels)}: {name}\N{NO-BREAK SPACE}{writing.decimals(ours.value)}"
    theirs = results.measure(labels, SCRATCH, results.metric)
    if theirs and results.main_model != SCRATCH:
        text += f", from scratch\N{NO-BREAK SPACE}{writing.decimals(theirs.value)}"
    return text


def summary(inputs: Inputs) -> str:
    """Return what was done, in one or two sentences."""
    text = f"A network{_of_backbone(inputs, ' (', ')')} was pretrained with {_method(inputs)}"
    if inputs.manifest:
        text += f" on {_images(inputs)}, without labels"
    if inputs.log:
        text += f", for {writing.count(inputs.log[-1]['step'], 'step')}"
    text += "."
    results = inputs.results
    if not results:
        return text
    learnt = writing.listed([words.amount(labels) for labels in results.amounts])
    test = results.data.test
    tested = f"{writing.count(test.images, 'image')}"
    if test.patients is not None:
        tested += f" of {writing.count(test.patients, _other(results) + 'patient')}"
    if results.leakage and results.leakage.test_seen_in_pretraining:
        tested += ", which the encoder had seen without labels"
    if results.mode == "distilled":
        return (
            f"{text} A classifier of {_classes(results)} that began there, with {learnt}, taught a"
            f" small student on unlabelled images; the student's numbers, tested on {tested}."
        )
    how = "fine-tuned" if results.main_model == "finetuned" else "used"
    aim = f"tell {_classes(results)} apart"
    if results.task == "segmentation":
        aim = f"outline {_classes(results)}"
    return f"{text} It was then {how} to {aim}, learning from {learnt}; tested on {tested}."


def tiles(results: Results | None) -> tuple[Tile, ...]:
    """Return one tile per amount of labels."""
    if not results:
        return ()
    amounts = results.amounts
    if len(amounts) > _MOST_TILES:  # the fewest, the usual one, the most
        amounts = list(dict.fromkeys([amounts[0], _typical_amount(results), amounts[-1]]))
    made = (_tile(results, labels) for labels in amounts)
    return tuple(tile for tile in made if tile)


def _tile(results: Results, labels: str) -> Tile | None:
    ours = results.measure(labels, results.main_model, results.metric)
    found = results.find(labels, results.main_model)
    if not ours or not found:
        return None
    theirs = results.measure(labels, SCRATCH, results.metric)
    text, tone = verdict(results.against_scratch(labels, results.metric), "from scratch")
    return Tile(
        title=f"{words.METRICS[results.metric]}, {words.amount(labels)} ({_counted(found)})",
        value=writing.decimals(ours.value),
        interval=writing.interval(ours),
        versus=f"from scratch {writing.decimals(theirs.value)}" if theirs else "",
        verdict=text,
        tone=tone,
    )


def _counted(result: Result) -> str:
    """Return how many labels were learnt from, and how many settings were chosen by."""
    if result.num_val_labels is None:
        return f"{result.num_labels:,}"
    return f"{result.num_labels:,} + {result.num_val_labels:,} to choose by"


def _typical_amount(results: Results) -> str:
    """Choose by a rule that doesn't look at the results: nearest to 10 %, else in the middle."""
    fractions = {item.labels: item.fraction for item in results.results if item.fraction}
    if fractions:
        return min(fractions, key=lambda labels: abs(fractions[labels] - _USUAL_FRACTION))
    return results.amounts[len(results.amounts) // 2]


def _method(inputs: Inputs) -> str:
    return inputs.config.method.about.title if inputs.config else "Self-supervised"


def _of_backbone(inputs: Inputs, before: str = " of a ", after: str = "") -> str:
    if not inputs.config:
        return ""
    name = choose_backbone(inputs.config)
    return f"{before}{words.BACKBONES.get(name, name)}{after}"


def _images(inputs: Inputs) -> str:
    """Say how many images the encoder saw: those of the test part are in the manifest too."""
    manifest = inputs.manifest
    if manifest is None:
        return "images"
    seen = training_rows(manifest, inputs.config.data) if inputs.config else manifest
    rows = seen.rows
    volumes = writing.count(rows["volume"].n_unique(), "volume") if seen.holds_volumes else ""
    text = volumes or writing.count(len(rows), "image")
    if seen.patch is not None:
        text = f"{writing.count(len(rows), 'patch', 'patches')} of {volumes}"
    patients = rows["patient"].n_unique() - rows["patient"].has_nulls()
    return f"{text} of {writing.count(patients, 'patient')}" if patients else text


def _other(results: Results) -> str:
    """Say that test patients are others than all that anything was learnt from, if they are."""
    seen = results.leakage.test_seen_in_pretraining if results.leakage else 0
    return "other " if results.split == "patient" and not seen else ""


def _classes(results: Results) -> str:
    if len(results.classes) <= 4:
        return writing.listed(results.classes)
    return f"{len(results.classes)} classes"
