"""Windows: what DICOM defines, what is done without one, and values that are no numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medssl.intensity import CT_DEFAULT, CT_WINDOWS, Window, to_display
from medssl.sources.decoded import Decoded, Linear, Lut, Values, VoiWindow, content_of


def image(values: Values, **changes: object) -> Decoded:
    bits = values.dtype.itemsize * 8
    return replace(Decoded(values, "MONOCHROME2", bits), **changes)  # type: ignore[arg-type]


HU = image(np.array([[-3000, -360, 40, 440, 3000]], np.int16), modality="CT", rescale=Linear(1, 0))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_follow_the_formulas_written_out(function: str) -> None:
    values = np.arange(-50, 150, dtype=np.int16)[None]
    window = VoiWindow(40, 100, function)  # type: ignore[arg-type]
    found = to_display(image(values, voi=window), Window.AUTO)[0, 0]
    for x, y in zip(values[0].tolist(), found.tolist(), strict=True):
        if function == "SIGMOID":
            expected = 1 / (1 + math.exp(-4 * (x - 40) / 100))
        elif function == "LINEAR":
            expected = min(1, max(0, (x - 39.5) / 99 + 0.5))
        else:
            expected = min(1, max(0, (x - 40) / 100 + 0.5))
        assert y == pytest.approx(expected, abs=1e-6)


def test_the_window_applies_after_the_rescale() -> None:
    stored = image(np.array([[0, 1000, 2000]], np.uint16), rescale=Linear(2, -1000))
    shown = to_display(replace(stored, voi=VoiWindow(1000, 2000, "LINEAR_EXACT")), Window.AUTO)
    assert shown[0, 0].tolist() == [0, 0.5, 1]


def test_lookup_tables_map_before_and_in_place_of_a_window() -> None:
    lut = Lut(1, np.array([0, 128, 255], np.uint16), 8)
    values = np.array([[0, 1, 2, 3, 9]], np.uint8)
    for changes in ({"voi": lut}, {"rescale": lut, "bits": 8}):
        shown = to_display(image(values, **changes), Window.AUTO)[0, 0]
        assert shown.tolist() == pytest.approx([0, 0, 128 / 255, 1, 1])


def test_monochrome1_is_inverted() -> None:
    values = np.array([[0, 51, 255]], np.uint8)
    shown = to_display(image(values, photometric="MONOCHROME1"), Window.AUTO)
    assert shown[0, 0].tolist() == pytest.approx([1, 0.8, 0])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [Window.PERCENTILE, Window.FULL])
def test_what_has_no_brightness_is_black_also_where_0_is_white(
    photometric: str, window: Window
) -> None:
    constant = np.full((2, 2), 7, np.float32)
    hole = np.array([[0, np.nan], [1, 1]], np.float32)
    assert not to_display(image(constant, photometric=photometric), window).any()
    assert to_display(image(hole, photometric=photometric), window)[0, 0, 1] == 0


def test_ct_without_window_gets_the_default_in_hounsfield_units() -> None:
    assert to_display(HU, Window.AUTO)[0, 0].tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=0.001)
    assert (CT_DEFAULT.center, CT_DEFAULT.width) == (40, 800)


@pytest.mark.parametrize("name", list(CT_WINDOWS))
def test_tissue_windows_are_for_ct_and_beat_the_files_own(name: Window) -> None:
    center = CT_WINDOWS[name].center
    values = np.array([[center - 5000, center, center + 5000]], np.int16)
    other = VoiWindow(3000, 1)
    ct = image(values, modality="CT", rescale=Linear(1, 0), voi=other)
    assert to_display(ct, name)[0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=0.01)
    mr = image(values, modality="MR", voi=other)
    assert np.array_equal(to_display(mr, name), to_display(mr, Window.AUTO))


def test_ct_without_rescale_has_no_hounsfield_units() -> None:
    values = np.arange(1000, 3000, dtype=np.uint16).reshape(40, 50)
    shown = to_display(image(values, modality="CT"), Window.AUTO)
    assert shown.min() == 0
    assert 0.45 < shown.mean() < 0.55


def test_deep_grey_images_get_their_percentiles_and_ignore_padding() -> None:
    values = np.arange(1000, 2000, dtype=np.int16).reshape(25, 40)
    values[0, :2] = 30000, -30000
    plain = to_display(image(values), Window.AUTO)[0]
    assert plain[12, 20] == pytest.approx(0.5, abs=0.02)
    padded = np.concatenate([values, np.full((200, 40), -2000, np.int16)])
    shown = to_display(image(padded, padding=(-2000, -2000)), Window.AUTO)[0]
    assert np.allclose(shown[:25], plain, atol=0.01)
    assert (shown[25:] == 0).all()


def test_eight_bit_keeps_its_full_range_unless_percentiles_are_asked_for() -> None:
    values = np.linspace(100, 150, 200).astype(np.uint8).reshape(10, 20)
    assert to_display(image(values), Window.AUTO).max() == pytest.approx(150 / 255)
    assert to_display(image(values), Window.PERCENTILE).max() == 1


def test_full_range_is_of_the_stored_bits_and_ignores_the_window() -> None:
    values = np.array([[0, 4095]], np.uint16)
    found = image(values, bits=12, voi=VoiWindow(5, 5), rescale=Linear(3, 7))
    assert to_display(found, Window.FULL)[0, 0].tolist() == [0, 1]
    signed = image(np.array([[-2048, 2047]], np.int16), bits=12)
    assert to_display(signed, Window.FULL)[0, 0].tolist() == [0, 1]
    assert to_display(signed, Window.FILE)[0, 0].tolist() == [0, 1]


def test_colour_and_palette_have_three_channels() -> None:
    rgb = np.array([[[0, 255, 51]]], np.uint8)
    assert to_display(image(rgb), Window.AUTO)[:, 0, 0].tolist() == pytest.approx([0, 1, 0.2])
    palette = np.array([[0, 0, 0], [65535, 0, 13107]], np.uint16)
    shown = to_display(image(np.array([[1]], np.uint8), palette=palette), Window.AUTO)
    assert shown[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2"])
@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("low", [None, 3])
def test_short_integers_are_shown_as_long_ones(dtype: str, window: Window, low: int | None) -> None:
    kind, rng = np.dtype(dtype), np.random.default_rng(0)
    ends = np.iinfo(kind)
    first, last = (ends.min, ends.max) if low is None else (low, low + 40)
    values = rng.integers(first, last, (300, 300), endpoint=True).astype(kind)
    slope = Linear(-0.7, 9)
    table = Lut(first, np.sqrt(np.arange(1000.0)), 5)
    for changes in (
        {"photometric": "MONOCHROME1"},
        {"rescale": slope, "padding": (first, first + 9)},
        {"modality": "CT", "rescale": slope},
        {"rescale": slope, "voi": VoiWindow(10, 70)},
        {"rescale": table},
    ):
        short = image(values, **changes)
        long = replace(short, values=values.astype(f"{kind.kind}4"))
        assert np.allclose(to_display(short, window), to_display(long, window), atol=1e-6)


FLOATS = arrays.arrays(
    np.float32, (3, 4), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
)
INTEGERS = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32"]).flatmap(
    lambda name: arrays.arrays(np.dtype(name), (3, 4))
)


@given(
    st.one_of(FLOATS, INTEGERS),
    st.sampled_from(list(Window)),
    st.sampled_from(["CT", "MR"]),
    st.one_of(st.none(), st.builds(Linear, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))),
    st.one_of(
        st.none(),
        st.builds(
            VoiWindow,
            st.floats(-1e6, 1e6),
            st.floats(1e-3, 1e6),
            st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
        ),
    ),
)
def test_whatever_the_values_the_result_is_finite_and_in_range(
    values: Values, window: Window, modality: str, rescale: Linear | None, voi: VoiWindow | None
) -> None:
    shown = to_display(image(values, modality=modality, rescale=rescale, voi=voi), window)
    assert shown.shape == (1, 3, 4)
    assert shown.dtype == np.float32
    assert np.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_equal_pictures_have_equal_content_in_any_container() -> None:
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    hashes = {
        content_of(image(grey.astype(dtype))).hash
        for dtype in ("uint8", "int16", ">u2", "int32", "uint32", "int64")
    }
    hashes.add(content_of(image(np.stack([grey] * 3, axis=-1))).hash)
    hashes.add(content_of(image(grey, palette=np.stack([np.arange(256, dtype="u1")] * 3, 1))).hash)
    assert len(hashes) == 1


def test_other_pictures_have_other_content() -> None:
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    pictures = (
        image(grey),
        image(grey[::-1]),
        image(grey.reshape(10, 6)),
        image(grey, photometric="MONOCHROME1"),
        image(grey.astype(np.int16) - 1),
        image(grey.astype(np.float32)),
    )
    assert len({content_of(picture).hash for picture in pictures}) == len(pictures)
