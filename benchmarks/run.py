"""Run all benchmarks, or those named, and go on when one cannot run here.

Run: python benchmarks/run.py [dicom_files] [views] ...
Each writes its result into benchmarks/results; a script whose data is missing says so.
"""

import subprocess
import sys

from record import HERE

SCRIPTS = ("dicom_files", "views", "methods_learn", "few_labels")


def main(names: list[str]) -> int:
    """Run the scripts one after the other; return 1 if any failed or was skipped."""
    failed = [
        name
        for name in names or SCRIPTS
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode
    ]
    print(f"not run to the end: {', '.join(failed)}" if failed else "all benchmarks recorded")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
