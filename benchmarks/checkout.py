"""Puts the checkout that this folder lies in before any other that is installed.

For the script that imports this, and for the commands that it runs. To be imported before the
packages of the checkout, as `record` does.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).absolute().parent
ROOT = str(HERE.parent)

sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
