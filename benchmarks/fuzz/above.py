"""Lets the scripts of this folder import those of the one above; to be imported first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))
