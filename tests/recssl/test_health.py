from functools import partial

import numpy as np
import torch
from scipy.sparse import csr_array

from recssl.health import RecMonitor
from recssl.readout import Readout


def test_the_collapse_of_one_side_is_seen() -> None:
    train = csr_array(np.eye(64, dtype=np.float32))
    spread_out = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    alike = torch.ones(64, 8)
    readout = Readout(train, cosine=False, layers=0, weight=1.0)
    none = csr_array(train.shape, dtype=np.float32)
    for sides in ((spread_out, alike), (alike, spread_out)):
        monitor = RecMonitor(partial(tuple, sides), readout, train, none, num_users=10, seed=0)
        health = monitor.measure().health
        assert health.spread < 0.01
        assert health.effective_rank < 1.5
