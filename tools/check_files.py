"""Refuse files that do not belong into the repository; the commit hook gives their names.

Checks size, YAML and TOML syntax, merge marks, private keys, and medical images outside of tests'
own temporary folders. Standard library and PyYAML only.
"""

import re
import sys
import tomllib
from pathlib import Path

import yaml

MAX_BYTES = 500_000
MEDICAL = re.compile(r"\.(dcm|dicom|nii|nii\.gz|nrrd|mha|mhd|svs|ndpi|mrxs)$", re.IGNORECASE)
MERGE_MARK = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)
PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")


def problems_of(path: Path) -> list[str]:
    """Return what speaks against `path`, in words."""
    content = path.read_bytes()
    found = []
    if len(content) > MAX_BYTES:
        found.append(f"{len(content)} bytes, more than {MAX_BYTES}")
    if MEDICAL.search(path.name) or content[128:132] == b"DICM":
        found.append("a medical image; tests write their own")
    if MERGE_MARK.search(content):
        found.append("a merge mark")
    if PRIVATE_KEY.search(content):
        found.append("a private key")
    try:
        if path.suffix in (".yaml", ".yml"):
            list(yaml.safe_load_all(content))
        elif path.suffix == ".toml":
            tomllib.loads(content.decode())
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found.append(f"bad syntax: {error}")
    return found


def main(names: list[str]) -> int:
    """Write the problems of the named files to stderr; return the exit status."""
    status = 0
    for name in names:
        for problem in problems_of(Path(name)):
            sys.stderr.write(f"{name}: {problem}\n")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
