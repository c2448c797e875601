"""The parts of a split log, and what is learnt from them."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from recssl.matrices import union
from recssl.new_users import support_of

LearnFrom = Literal["train", "train+valid"]


class Parts(NamedTuple):
    """The interactions as CSR matrices `[users, items]`, float32, sorted, without duplicates."""

    train: csr_array
    valid: csr_array
    test: csr_array

    @property
    def support(self) -> csr_array:
        """Empty: nobody is new and partly known."""
        return csr_array(self.train.shape, dtype=np.float32)


class Split(Protocol):
    """Three CSR matrices `[users, items]`: a `Dataset`, or its `Parts`."""

    @property
    def train(self) -> csr_array:
        """Learnt from."""
        ...

    @property
    def valid(self) -> csr_array:
        """Chosen on."""
        ...

    @property
    def test(self) -> csr_array:
        """Looked at once."""
        ...

    @property
    def support(self) -> csr_array:
        """Known of users of valid and test whom train does not have."""
        ...


def learnt_of(split: Split, learn_from: LearnFrom) -> csr_array:
    """Return what methods are fitted on, every entry 1; of the support only that of valid users."""
    if learn_from == "train":
        return split.train
    return union(union(split.train, split.valid), support_of(split.valid, split.support))
