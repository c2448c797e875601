"""Structures in images: masks in files beside them, and DICOM objects that hold them."""
