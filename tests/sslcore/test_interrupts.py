import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("module", ["medssl.scanning.scan", "recssl.ingest.job"])
def test_reading_does_not_wait_for_torch(module: str) -> None:
    words = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0


@pytest.mark.slow
def test_ctrl_c_while_torch_loads_is_an_interrupt() -> None:
    # a thread sends it in the middle of the import, where torch itself would abort the process
    words = """
import os, signal, sys, threading, time
from sslcore.interrupts import load_torch

def interrupt():
    while "torch" not in sys.modules:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=interrupt).start()
try:
    load_torch()
except KeyboardInterrupt:
    sys.exit(17 if hasattr(sys.modules["torch"], "compile") else 1)
"""
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 17
