"""DICOM attributes whose value may be a label: words of fixed lists, which cannot name anybody.

Labels stand in the manifest, in predictions and in reports, so a value that is not on the list of
its attribute is no label, whatever it says. The attributes are of those that the confidentiality
profile of DICOM leaves as they are: the sex of a patient is not, nor is any date, UID or free text.

Source:
    DICOM PS3.15, table E.1-1; PS3.3, C.8.1.1 and C.8.11.7 (View Position), C.7.3.1 (Laterality);
    after PS3.16, annex L (Body Part Examined); beside them words in common use, such as LATERAL.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from medssl.sources.dicom_terms import MODALITIES

_BODY_PARTS = """
ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA ARM ARTERY ATRIUM AXILLA BACK BILEDUCT BLADDER BODY
BONE BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST
CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE
CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM
GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS ILEUM ILIUM IAC JAW JEJUNUM JOINT KIDNEY KNEE
LARYNX LEG LIVER LSPINE LSSPINE LUNG MANDIBLE MASTOID MAXILLA MEDIASTINUM MOUTH MUSCLE NECK
NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PARATHYROID PAROTID PATELLA
PELVIS PENIS PHARYNX PLACENTA PROSTATE RADIUS RADIUSULNA RECTUM RETINA RIB SACRUM SCALP SCAPULA
SCROTUM SELLA SHOULDER SIJOINT SINUS SKIN SKULL SPINALCORD SPINE SPLEEN SSPINE STERNUM STOMACH
SUBMANDIBULAR TAIL TESTIS THIGH THORAX THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE
TONGUE TOOTH TRACHEA TSPINE ULNA URETER URETHRA UTERUS VAGINA VEIN VENTRICLE VULVA WHOLEBODY WRIST
ZYGOMA
"""
_VIEWS = """
AP PA LL RL RLD LLD RLO LLO LAT LATERAL LATERO OBLIQUE AXIAL LAO RAO LPO RPO
CC MLO ML LM LMO SIO FB XCC XCCL XCCM ISO CV AT RL RM
"""
TERMS: Mapping[str, frozenset[str]] = {
    "BodyPartExamined": frozenset(_BODY_PARTS.split()),
    "ViewPosition": frozenset(_VIEWS.split()),
    "Laterality": frozenset("LR"),
    "ImageLaterality": frozenset("LRUB"),
    "Modality": MODALITIES,
}


def as_term(keyword: str, said: str) -> str | None:
    """Return the word of the list of `keyword` that a file says; None for anything else.

    Case, blanks and the signs that divide words do not matter: `C-Spine` is `CSPINE`.
    """
    word = "".join(letter for letter in said.upper() if letter.isalnum())
    return word if word in TERMS[keyword] else None


def _require_label_tag(keyword: str) -> str:
    if keyword not in TERMS:
        raise ValueError(
            f"{keyword!r} is no label: it may identify a patient, or holds free text; expected one"
            f" of {', '.join(TERMS)}"
        )
    return keyword


LabelTag = Annotated[str, AfterValidator(_require_label_tag)]
