"""The order in which training learns from the rows, and how far it has come."""

import numpy as np

from .core.simd.rng import N_WORDS
from .core.simd.rng import shuffle as shuffle_rows

NO_LOSSES = np.empty(0)


class Walk:
    """Where a training loop is in the rows that it learns from; another loop can go on from there.

    Parameters
    ----------
    rows : ndarray of int64
        Rows of the data to learn from; shuffled in place.
    rng : numpy.random.RandomState, function that makes one, or None
        Draws the permutations, the same as scikit-learn's; None: the order of rows stays.
    private : bool
        Whether no one else draws from ``rng``, so that the state in which it is left does not matter.

    Attributes
    ----------
    drawn : bool
        Whether ``rows`` have the order of an epoch that does not count yet.
    batch : int
        Batches of that epoch that are done.
    first : int
        The optimizer's step at its begin, where it has begun.
    losses : ndarray of shape (n_batches,)
        Losses of the batches done.
    """

    def __init__(self, rows, rng=None, *, private=False):
        self.rows, self._rng, self.private = rows, rng, private
        self.drawn, self.batch, self.first, self.losses = False, 0, 0, NO_LOSSES
        self._state = None  # of the generator, as `shuffle_rows` changes it

    @property
    def rng(self):
        """The generator, made when it is first asked for."""
        if callable(self._rng):
            self._rng = self._rng()
        return self._rng

    @rng.setter
    def rng(self, rng):
        self._rng = rng

    def orders(self, quick):
        """Yield ``rows`` for each epoch. With ``quick`` compiled code draws from a copy of the generator's state."""
        rows, permute = self.rows, None
        if self.rng is not None:
            permute, given = self.rng.shuffle, ()
            if quick:
                _, key, used, *_ = self.rng.get_state()
                self._state = key, np.array([used], np.int64)
                permute, given = shuffle_rows.twin(rows.dtype), (key, np.empty(N_WORDS, np.uint32), self._state[1])
        while True:
            if permute is not None and not self.drawn:
                self.drawn = True  # before the call, in which no signal handler runs
                permute(rows, *given)
            yield rows

    def generator(self):
        """The state of the generator, as ``RandomState.set_state`` takes it; None where there is none."""
        if self.rng is None:
            return None
        state = self.rng.get_state(legacy=False)
        if self._state is not None:
            key, used = self._state
            state["state"] = {"key": key.copy(), "pos": int(used[0])}
        return state
