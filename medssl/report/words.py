"""Names and explanations as a reader of the report knows them."""

from medssl.errors import Reason

BACKBONES = {
    "resnet10": "ResNet-10",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "densenet121": "DenseNet-121",
    "efficientnet_b0": "EfficientNet-B0",
    "vit_tiny": "ViT-Tiny",
    "vit_small": "ViT-Small",
}

MODELS = {
    "distilled": "Student",
    "teacher": "Its teacher",
    "finetuned": "Pretrained, fine-tuned",
    "frozen": "Pretrained, frozen",
    "linear_probe": "Pretrained, linear probe",
    "knn": "Pretrained, kNN",
    "scratch": "From scratch",
    "untrained_probe": "Untrained, linear probe",
    "pixels_probe": "Raw pixels, linear probe",
}

MODEL_COLORS = {
    "distilled": 0,
    "teacher": 2,
    "finetuned": 2,
    "frozen": 0,
    "linear_probe": 0,
    "knn": 3,
    "scratch": 1,
    "untrained_probe": 7,
    "pixels_probe": 6,
}

METRICS = {
    "dice": "Dice",
    "auroc": "AUROC",
    "balanced_accuracy": "Balanced accuracy",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "calibration_error": "Calibration error",
}

PROBLEMS = {
    "gap": "with slices missing",
    "uneven": "unevenly spaced",
    "tilted": "tilted",
    "no_geometry": "without a geometry",
    "mixed_sizes": "of a series with other sizes or pixel spacings",
    "shared_series": "of a series of several patients or studies",
}
KINDS = {
    "dicom": "DICOM",
    "png": "PNG",
    "jpeg": "JPEG",
    "tiff": "TIFF",
    "bmp": "BMP",
    "npz": "MedMNIST array",
    "slide": "whole slide, a tile",
    "nifti": "NIfTI volume",
    "nrrd": "NRRD volume",
    "metaimage": "MetaImage volume",
}

REASONS = {
    Reason.EMPTY: "the file has no content",
    Reason.NOT_AN_IMAGE: "neither DICOM nor one of the image formats",
    Reason.NO_PIXELS: "DICOM without an image, such as a report or a directory",
    Reason.NO_TILES: "a slide without a tile of tissue that is in focus and not drawn on",
    Reason.SEGMENTATION: "structures in other images; medssl segment learns from them",
    Reason.TRUNCATED: "the file ends before the image does",
    Reason.CORRUPT: "damaged: it does not follow its own format",
    Reason.UNSUPPORTED: "readable, but of a kind that no reader here handles",
    Reason.OTHER_LEVEL: "a level of a slide, which was read from a file beside it",
    Reason.TOO_LARGE: "more pixels than the limit that guards the memory",
    Reason.NO_PERMISSION: "this account may not read the file",
    Reason.VANISHED: "gone between listing the folder and reading it",
    Reason.OUT_OF_RESOURCES: "the machine lacked disk or files for it; scan again",
    Reason.NOT_FETCHED: "did not come from its remote folder; another scan tries again",
    Reason.DECODER_CRASHED: "the decoder stopped working on it",
    Reason.DECODER_TIMEOUT: "the decoder did not come to an end",
    Reason.READER_BUG: "a mistake of this project, not of the file: please report it",
}

HOW_TO_READ = (
    (
        "Pretraining",
        (
            "The network first looked at images without any labels, and learnt to recognise the"
            " same image in two differently changed copies. What it learnt that way is then used"
            " to learn the diagnosis from few labels."
        ),
    ),
    (
        "From scratch",
        (
            "The same network, with the same labels and the same test images, but without"
            " pretraining. The distance to it is what pretraining is worth here."
        ),
    ),
    (
        "Linear probe, kNN",
        (
            "Two ways to use a network without changing it: a weighted sum of its outputs,"
            " fitted to the labels; or a vote of the most similar labelled images. Untrained:"
            " the same with a network of random weights. Raw pixels: without any network."
            " Both show what would have come out without learning from images."
        ),
    ),
    (
        "AUROC",
        (
            "Take one image of the class and one of another, at random: how often the model"
            " ranks them the right way round. 0.5 is guessing, 1 is perfect. It does not depend"
            " on a threshold."
        ),
    ),
    (
        "Dice",
        (
            "How much a mask and an outline have in common: twice their common pixels over the"
            " pixels of both. 0 is nothing, 1 is perfect. It is that of whole volumes, in the"
            " resolution of the files."
        ),
    ),
    (
        "Balanced accuracy",
        (
            "The share of correct decisions, counted for each class and then averaged, so that"
            " a frequent class does not hide a rare one. Guessing between two classes gives 0.5."
        ),
    ),
    (
        "Average precision",
        (
            "How pure the list of images is that the model calls most likely, averaged over all"
            " cut-offs. Compare it with the share of the class among the test images."
        ),
    ),
    (
        "Calibration error",
        (
            "The mean distance between what the model claims and what is true: of the images it"
            " is 80 % sure of, 80 % should be right. 0 is best."
        ),
    ),
    (
        "95 % interval",
        (
            "Small grey numbers and thin bars. The test patients were drawn again and again;"
            " the interval holds 95 % of the results. If few patients were tested it is wide,"
            " and rightly so. A difference whose interval contains 0 may be chance."
        ),
    ),
    (
        "Loss",
        (
            "What pretraining minimises. It should fall and then flatten; its absolute value"
            " means nothing and can't be compared between methods."
        ),
    ),
    (
        "Spread, effective rank",
        (
            "Whether the network still tells images apart. A fall towards 0, or towards rank 1,"
            " means that everything looks the same to it (collapse)."
        ),
    ),
    (
        "Alignment, uniformity",
        (
            "How close two copies of one image lie (lower is closer), and how evenly all images"
            " use the space (lower is more even). Good training lowers both."
        ),
    ),
    (
        "Map of the images",
        (
            "Each point is an image; near points look alike to the network. Distances across"
            " the map, axes and empty space mean nothing. The map is made without the labels,"
            " which only give the colours."
        ),
    ),
    (
        "What this is not",
        (
            "A measurement on one collection of images, not a proof of clinical value. Other"
            " scanners, hospitals and patients can give other results."
        ),
    ),
)


def amount(labels: str) -> str:
    """Return an amount of labels as the middle of a sentence: `10 % of the labels`."""
    if labels.rstrip(" %") == "100":
        return "all labels"
    if "%" in labels:
        return f"{labels.rstrip(' %')}\N{NO-BREAK SPACE}% of the labels"
    return labels.replace(
        "per class", "label per class" if labels[:2] == "1 " else "labels per class"
    )


def short(key: str) -> str:
    """Return as much of a keyed hash as tells rows apart on a page, and the place of a patch."""
    name, dot, place = key.partition(".")
    return name[:6] + dot + place
