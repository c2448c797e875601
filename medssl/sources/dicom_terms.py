"""Words that DICOM defines. Only these may leave a file: a planted name cannot stand among them.

Source:
    DICOM PS3.3, C.7.3.1.1.1 (Modality, with retired terms) and C.7.6.3.1.2 (Photometric
    Interpretation).
"""

_MODALITIES = """
ANN AR ASMT AU BDUS BI BMD CD CF CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC ECG EEG
EMG EOG EPS ES FA FID FS GM HC HD IO IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM
OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE
RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN
TEXTUREMAP TG US VA VF XA XAPROTOCOL XC
"""
MODALITIES = frozenset(_MODALITIES.split())

PHOTOMETRIC = frozenset(
    (
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_ICT",
        "YBR_RCT",
    )
)
