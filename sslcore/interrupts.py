"""Ctrl-C at the wrong moment: not lost, only late."""

import signal


def load_torch() -> None:
    """Import torch so that Ctrl-C in the middle of it raises `KeyboardInterrupt` at its end.

    By itself, an interrupt that arrives while torch loads is an exception in its C++, which aborts
    the process. So a command calls this before its other imports. For the main thread.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's business
        import torch  # noqa: PLC0415

        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        import torch  # noqa: F401, PLC0415
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
