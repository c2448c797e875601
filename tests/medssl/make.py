"""Small image files for the tests of readers and scan."""

import bz2
import gzip
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

Values = NDArray[Any]
# from voxels to mm in RAS, when axes are left to right, back to front, feet to head
PLAIN_AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
CT = "1.2.840.10008.5.1.4.1.1.2"

LOSSLESS = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
)
LOSSY = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
)


def ramp(rows: int = 16, columns: int = 24, *, top: int = 4000, dtype: str = "uint16") -> Values:
    """Return a smooth picture from 0 to `top`, different in both directions."""
    places = np.add.outer(np.arange(rows) * 3, np.arange(columns) * 2)
    return (places * (top / places.max())).round().astype(dtype)


def colours(rows: int = 16, columns: int = 24) -> Values:
    """Return a smooth RGB picture."""
    red = ramp(rows, columns, top=250, dtype="uint8")
    return np.stack([red, red[::-1], np.full_like(red, 40)], axis=-1)


def dataset(
    values: Values, syntax: UID = uid.ExplicitVRLittleEndian, **changes: Any
) -> FileDataset:
    """Return a DICOM data set; `values` are `[rows, columns(, 3)]`, with frames in front or not."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    data.SOPClassUID, data.SOPInstanceUID = UID(CT), meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID = "MR", "P-4711"
    data.PatientName = "Doe^Jane"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    colour = values.shape[-1] == 3
    frames = values if values.ndim == (4 if colour else 3) else values[None]
    data.Rows, data.Columns = frames.shape[1:3]
    if len(frames) > 1:
        data.NumberOfFrames = len(frames)
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if "PixelData" not in changes:
        add_pixels(data, frames, syntax)
    return data


def add_pixels(data: FileDataset, frames: Values, syntax: UID) -> None:
    """Encode `frames` as `syntax` asks."""
    if syntax.is_encapsulated and syntax != uid.RLELossless:
        data.PixelData = encapsulate([encode(frame, syntax) for frame in frames])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        return
    order = "<" if syntax.is_little_endian else ">"
    data.PixelData = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    if syntax == uid.RLELossless:
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        data.compress(uid.RLELossless, generate_instance_uid=False)


def encode(frame: Values, syntax: UID) -> bytes:
    """Encode one frame as a compressed `syntax` asks."""
    deep = frame.dtype.itemsize > 1
    match syntax:
        case uid.JPEGBaseline8Bit:
            data = imagecodecs.jpeg8_encode(frame, level=98, subsampling="444")
        case uid.JPEGExtended12Bit:
            data = imagecodecs.jpeg8_encode(frame, level=100, bitspersample=12 if deep else 8)
        case uid.JPEGLossless | uid.JPEGLosslessSV1:
            data = imagecodecs.jpeg8_encode(
                frame, lossless=True, predictor=1, bitspersample=16 if deep else 8
            )
        case uid.JPEGLSLossless | uid.JPEGLSNearLossless:
            level = 2 if syntax == uid.JPEGLSNearLossless else 0
            data = imagecodecs.jpegls_encode(frame, level=level)
        case uid.JPEG2000Lossless | uid.JPEG2000:
            lossless = syntax == uid.JPEG2000Lossless
            data = imagecodecs.jpeg2k_encode(
                frame,
                codecformat="J2K",
                reversible=lossless,
                level=0 if lossless else 90,
                mct=False,
            )
        case _:
            data = imagecodecs.htj2k_encode(frame, reversible=syntax != uid.HTJ2K)
    return bytes(data)


def write_dicom(
    path: Path, values: Values, syntax: UID = uid.ExplicitVRLittleEndian, **changes: Any
) -> Path:
    """Write `dataset(...)` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is wrong on purpose
        dataset(values, syntax, **changes).save_as(path, enforce_file_format=True)
    return path


def write_png(path: Path, values: Values) -> Path:
    """Write an 8-bit picture as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, "PNG")
    return path


def hospital(root: Path) -> Path:
    """Write three images of two patients, in four files, and five files that are none."""
    write_dicom(root / "a" / "IM0001", ramp(), uid.JPEG2000Lossless, PatientID="P1", Modality="CT")
    write_dicom(root / "a" / "deep" / "IM0002", np.stack([ramp(), ramp() // 2]), PatientID="P2")
    write_png(root / "b" / "scan.txt", colours())
    write_dicom(root / "cut", ramp()).write_bytes((root / "cut").read_bytes()[:-100])
    (root / "notes.txt").write_text("Jane Doe, 4711")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(300))
    (root / "empty").touch()
    report = dataset(ramp())
    del report.PixelData, report.Rows, report.Columns
    report.SOPClassUID = uid.UID("1.2.840.10008.5.1.4.1.1.88.11")
    report.save_as(root / "report.dcm", enforce_file_format=True)
    return root


def nifti(
    voxels: Values, affine: Values = PLAIN_AFFINE, *, version: int = 1, **fields: Any
) -> bytes:
    """Return a NIfTI file of voxels in the byte order of their type; `fields` are of its header."""
    image_class = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    order = ">" if voxels.dtype.byteorder == ">" else "<"
    header = image_class.header_class(endianness=order)
    image = image_class(voxels, affine, header, dtype=voxels.dtype)
    for name, value in fields.items():
        image.header[name] = value
    return bytes(image.to_bytes())


def nrrd_file(
    voxels: Values, *, packing: str = "raw", data: str | None = None, **fields: str
) -> bytes:
    """Return a NRRD file, fastest axis first; with `data` the header only, naming that file."""
    code = voxels.dtype.newbyteorder("<").str[1:]
    kinds = {"u1": "uint8", "u2": "uint16", "i2": "int16", "f4": "float", "f8": "double"}
    lines = {
        "type": kinds[code],
        "dimension": str(voxels.ndim),
        "sizes": " ".join(map(str, voxels.shape)),
        "encoding": packing,
        "endian": "big" if voxels.dtype.byteorder == ">" else "little",
        **({} if data is None else {"data file": data}),
        **{key.replace("_", " "): value for key, value in fields.items()},
    }
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    body = voxels.tobytes(order="F")
    pack = {"gzip": gzip.compress, "bzip2": bz2.compress}.get(packing, bytes)
    return f"NRRD0005\n{text}\n".encode() + (b"" if data else pack(body))


def metaimage(voxels: Values, *, packed: bool = False, data: str = "LOCAL", **fields: str) -> bytes:
    """Return a MetaImage file, fastest axis first; see `nrrd_file` for `data`."""
    code = voxels.dtype.newbyteorder("<").str[1:]
    kinds = {"u1": "UCHAR", "u2": "USHORT", "i2": "SHORT", "f4": "FLOAT", "f8": "DOUBLE"}
    lines = {
        "ObjectType": "Image",
        "NDims": str(voxels.ndim),
        "BinaryDataByteOrderMSB": str(voxels.dtype.byteorder == ">"),
        "CompressedData": str(packed),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": f"MET_{kinds[code]}",
        **fields,
        "ElementDataFile": data,
    }
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    body = voxels.tobytes(order="F")
    body = zlib.compress(body) if packed else body
    return text.encode() + (body if data == "LOCAL" else b"")


def write_stack(folder: Path, voxels: Values) -> None:
    """Write a series of slices, 2 mm apart, in no order."""
    for place in np.random.default_rng(0).permutation(len(voxels)).tolist():
        write_dicom(
            folder / f"{place}",
            voxels[place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 2.0 * place],
        )
