"""Records are packed as addresses: whatever is not of the type that compiled code takes it for is refused."""

import numpy as np
import pytest
from numba import config

from fastnn.core.compile.packing import pack
from fastnn.core.records import EncodedData
from fastnn.plan import make_plan
from fastnn.state import make_buffers, new_state
from fastnn.train import TrainingData

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python packs nothing")

NAMES = dict(hidden_activation="relu", out_activation="softmax", loss="log_loss", solver="adam")


def records(dtype=np.float32):
    layout, plan = make_plan(units=(5, 4, 3), batch_size=2, dtype=dtype, **NAMES)
    buffers, _ = make_buffers(layout, plan, new_state(layout, plan), 1)
    X = np.zeros((2, 5), dtype)
    examples = TrainingData(
        EncodedData(X, None, np.zeros(2, np.int32), np.zeros((0, 0), dtype), np.zeros(0, dtype))
    ).examples
    return {"layout": layout, "plan": plan, "buffers": buffers, "examples": examples}


def misaligned(array):
    moved = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    assert not moved.flags.aligned
    return moved


MISFITS = {
    "32-bit table": ("layout", "units", lambda a: a.astype(np.int32)),
    "32-bit buffer": ("buffers", "prefetch_lines", lambda a: a.astype(np.int32)),
    "64-bit labels": ("examples", "labels", lambda a: a.astype(np.int64)),
    "32-bit count": ("plan", "batch_size", np.int32),
    "Python's integer": ("plan", "batch_size", int),
    "Python's number": ("plan", "alpha", float),
    "constants of the other dtype": ("plan", "optimizer", lambda a: a.astype(np.float64)),
    "weights of the other dtype": ("buffers", "params", lambda a: a.astype(np.float64)),
    "step scalars of the network's dtype": ("buffers", "step_scalars", lambda a: a.astype(np.float32)),
    "other byte order": ("buffers", "params", lambda a: a.astype(">f4")),
    "one axis for two": ("examples", "X", np.ravel),
    "every second element": ("buffers", "params", lambda a: np.repeat(a, 2)[::2]),
    "Fortran's order": ("examples", "X", np.asfortranarray),
    "misaligned": ("buffers", "deltas", misaligned),
    "a list": ("buffers", "squares", np.ndarray.tolist),
}


@pytest.mark.parametrize("case", MISFITS)
def test_pack_refuses_what_compiled_code_would_misread(case):
    owner, field, spoil = MISFITS[case]
    given = records()
    spoilt = given | {owner: given[owner]._replace(**{field: spoil(getattr(given[owner], field))})}
    with pytest.raises(TypeError, match=rf"^{type(given[owner]).__name__}\.{field} must be"):
        pack(*spoilt.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pack_takes_what_the_package_makes(dtype):
    given = records(dtype)
    packed = pack(*given.values())
    n_words = [1 + value.ndim if isinstance(value, np.ndarray) else 1 for record in given.values() for value in record]
    assert packed.dtype == np.int64 and packed.shape == (sum(n_words),)
    assert packed[:2].tolist() == [given["layout"].units.ctypes.data, 3]
    alpha = sum(n_words[: len(given["layout"]) + given["plan"]._fields.index("alpha")])
    assert packed[alpha : alpha + 1].view(np.float64)[0] == given["plan"].alpha
