"""What may be changed in which kind of image, and why: the table a physician should read.

A change belongs here if two examinations of the same finding can differ by it. What can carry the
finding itself stays: side of the body, density in CT, colour of a stain.
"""

from dataclasses import dataclass

from medssl.config import Preset


@dataclass(frozen=True, slots=True)
class PresetPlan:
    """Augmentation of one kind of image; a strength of 0 leaves a change out.

    What a plan does not name does not happen, but for a little blur, which every lens and screen
    adds.

    Attributes:
        why: The reasons, in words.
        crop_scale: Smallest and largest share of the area a view shows.
        horizontal_flip: Probability to swap left and right.
        vertical_flip: Probability to swap top and bottom.
        quarter_turns: Whether an image may stand on any of its sides.
        rotation: Degrees, either way.
        brightness: Largest shift of values of 0 to 1, either way.
        contrast: Largest change of the factor, either way.
        gamma: Largest power; the smallest is its inverse.
        blur: Largest standard deviation, share of the view's side.
        sharpness: Largest gain of edges.
        noise: Largest standard deviation for values of 0 to 1.
        bias_field: Largest coefficient of the polynomial in log intensity.
        stain: Largest relative change of the amount of a dye.
        saturation: Largest change of the factor, either way.
        hue: Largest turn, parts of a full turn.
        grey: Probability to lose all colour.
    """

    why: str
    crop_scale: tuple[float, float]
    brightness: float
    contrast: float
    gamma: float
    sharpness: float
    noise: float
    blur: float = 0.01
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    quarter_turns: bool = False
    rotation: float = 0.0
    bias_field: float = 0.0
    stain: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0


PRESETS: dict[Preset, PresetPlan] = {
    Preset.RADIOGRAPH: PresetPlan(
        why="Exposure, detector and processing differ: brightness, contrast, gamma, sharpness."
        " Patients stand slightly askew: a small rotation. No flip: heart and markers have a side.",
        crop_scale=(0.3, 1.0),
        rotation=10.0,
        brightness=0.2,
        contrast=0.4,
        gamma=1.5,
        sharpness=1.0,
        noise=0.03,
    ),
    Preset.CT: PresetPlan(
        why="Hounsfield units, and the uptake of PET, are calibrated and are the finding:"
        " brightness, contrast and gamma change little. Dose and reconstruction kernel differ:"
        " noise, sharpness, blur. No flip: organs have a side. No colour, no inversion: they do not"
        " occur.",
        crop_scale=(0.3, 1.0),
        rotation=15.0,
        brightness=0.1,
        contrast=0.2,
        gamma=1.2,
        sharpness=1.0,
        noise=0.05,
    ),
    Preset.MR: PresetPlan(
        why="Values have no unit and receive coils light unevenly: contrast, gamma, bias field."
        " No flip: lesions and dominant hemispheres have a side.",
        crop_scale=(0.3, 1.0),
        rotation=15.0,
        brightness=0.1,
        contrast=0.4,
        gamma=1.5,
        sharpness=0.5,
        noise=0.05,
        bias_field=0.3,
    ),
    Preset.HISTOLOGY: PresetPlan(
        why="A section has no up and no side: quarter turns and flips. Laboratories differ in dye"
        " and thickness: the amount of each dye varies, but not the hue, so that haematoxylin"
        " stays haematoxylin. Magnification is known and cell size matters: large crops.",
        crop_scale=(0.4, 1.0),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
        brightness=0.1,
        contrast=0.2,
        gamma=1.2,
        sharpness=0.5,
        noise=0.02,
        stain=0.15,
    ),
    Preset.MICROSCOPY: PresetPlan(
        why="Cells lie in any direction: all turns and flips. Lamp and focus differ: brightness,"
        " contrast, blur. Stain colour tells a parasite from debris: colour changes only a little.",
        crop_scale=(0.4, 1.0),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        quarter_turns=True,
        rotation=45.0,
        brightness=0.2,
        contrast=0.3,
        gamma=1.3,
        sharpness=0.5,
        noise=0.02,
        saturation=0.2,
        hue=0.02,
    ),
    Preset.PHOTOGRAPH: PresetPlan(
        why="Lamp, camera and skin tone differ: brightness, contrast, hue, saturation, sometimes"
        " grey. Mirrored skin is skin: horizontal flip (not for the fundus of the eye, whose side"
        " shows: set views.horizontal_flip=0).",
        crop_scale=(0.25, 1.0),
        horizontal_flip=0.5,
        rotation=20.0,
        brightness=0.3,
        contrast=0.4,
        gamma=1.3,
        sharpness=0.5,
        noise=0.02,
        saturation=0.4,
        hue=0.05,
        grey=0.1,
    ),
}

# DICOM modality codes; for those that are missing see `medssl.views.choose_preset`.
BY_MODALITY: dict[str, Preset] = {
    **dict.fromkeys(("CT", "PT"), Preset.CT),
    "MR": Preset.MR,
    "SM": Preset.HISTOLOGY,
    "GM": Preset.MICROSCOPY,
    **dict.fromkeys(("ES", "XC", "OP", "DMS", "GMS"), Preset.PHOTOGRAPH),
    **dict.fromkeys(("CR", "DX", "MG", "RF", "XA", "RG", "IO", "PX", "US"), Preset.RADIOGRAPH),
}

# MedMNIST archives carry no modality, but their names are known.
BY_ARCHIVE: dict[str, Preset] = {
    "pathmnist": Preset.HISTOLOGY,
    "bloodmnist": Preset.MICROSCOPY,
    "tissuemnist": Preset.MICROSCOPY,
    "dermamnist": Preset.PHOTOGRAPH,
    "retinamnist": Preset.PHOTOGRAPH,
    "organamnist": Preset.CT,
    "organcmnist": Preset.CT,
    "organsmnist": Preset.CT,
}
