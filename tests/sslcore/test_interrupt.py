import os
import signal

import pytest

from sslcore.training.interrupt import ctrl_c_is_noted


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_time_is_noted_and_the_second_acts() -> None:
    with ctrl_c_is_noted() as noted:
        assert not noted()
        press_ctrl_c()
        assert noted()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_afterwards_ctrl_c_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c_is_noted():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
