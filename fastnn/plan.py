"""Names become ids, sizes become offsets: what the compiled code is told.

Left of this module an activation is a string and a network a tuple of sizes; right of it there are only ids, scalars of
exact type and arrays. Nothing is allocated here but the small tables themselves.
"""

import numpy as np

from .core.engine.programs import (
    GRADIENT_OF_BATCHES,
    ROWS_PASS_CSR,
    ROWS_PASS_DENSE,
    STEP_THEN_SHARDS,
    STEPS_OF_BATCHES,
    STEPS_OF_SHARDS,
    UPDATE,
    WEIGHTS_PASS_CSR,
    WEIGHTS_PASS_DENSE,
    advance,
    work,
)
from .core.nn.activations import (
    ACTIVATIONS,
    activate,
    activate_output,
    differentiate,
    differentiate_input,
    outputs_of_sums,
    single_output_backward,
    single_output_backward_input,
)
from .core.nn.losses import LOSSES, loss_of_rows
from .core.nn.network import ALL_COLUMNS, gather
from .core.nn.optimizers import ADD, NO_STEP, OPTIMIZERS, SINKS, STORE, step
from .core.nn.update import GROUP
from .core.records import Layout, TrainPlan
from .core.simd.target import few_registers

PADDING = 64  # spare elements behind every buffer: tiles load and store whole vectors
VECTOR_BYTES = 32  # rows of activations and deltas start on whole units of the tiles
CONFLICT_BYTES = 512  # rows a multiple of this apart fall into few sets of the first cache: one more line between them


def padded_stride(n, itemsize):
    """Leading dimension for rows of ``n`` elements: whole units, and no distance that makes rows collide in cache."""
    unit = VECTOR_BYTES // itemsize
    stride = -(-n // unit) * unit
    if stride * itemsize % CONFLICT_BYTES == 0:
        stride += 2 * unit
    return stride


def make_layout(units, dtype, n_rows):
    """Lay out parameters, and activations and deltas for ``n_rows`` rows, of a network.

    Parameters
    ----------
    units : sequence of int
        Units of each level: features, hidden layers, outputs.
    dtype : numpy.dtype
    n_rows : int
        Rows whose activations are kept at the same time.

    Returns
    -------
    Layout
        ``activation`` is all zeros; `make_plan` fills it in.
    """
    units = np.asarray(units, dtype=np.int64)
    fan_in, fan_out = units[:-1], units[1:]
    strides = np.array([padded_stride(int(n), dtype.itemsize) for n in units], dtype=np.int64)
    ends = np.cumsum(fan_in * fan_out + fan_out)
    weight = ends - (fan_in * fan_out + fan_out)
    levels = _starts(strides[:-1] * n_rows)
    deltas = _starts(strides[1:] * n_rows)
    copies = strides[:-1] * fan_out
    copies[0] = 0
    return Layout(
        units=units,
        stride=strides,
        weight=weight,
        bias=weight + fan_in * fan_out,
        activation=np.zeros(len(fan_in), dtype=np.int64),
        level=np.append(levels, 0),
        delta=np.append(0, deltas),
        transposed=_starts(copies),
        squares=_starts(-(-fan_in // GROUP)),
    )


def without_input(layout):
    """The layout without a place for the activations of level 0: rows of X are read where they lie."""
    return layout._replace(level=np.maximum(layout.level - layout.level[1], 0))


def _starts(sizes):
    return np.cumsum(sizes) - sizes


def n_params(layout):
    """Number of weights and biases."""
    return int(layout.bias[-1] + layout.units[-1])


def loss_of(users_name, out_activation, *, classifier):
    """Name in ``LOSSES`` of what an estimator calls ``users_name``, after the given output activation.

    Raises
    ------
    ValueError
        When the loss does not go with the output activation; the legal pairs are listed.
    """
    pairs = {(row.users_name, row.output): name for name, row in LOSSES.items() if row.classifier == classifier}
    if (users_name, out_activation) not in pairs:
        legal = ", ".join(f"loss={loss!r} with out_activation={out!r}" for loss, out in pairs)
        raise ValueError(f"loss={users_name!r} does not go with out_activation={out_activation!r}; legal are {legal}.")
    return pairs[users_name, out_activation]


def loss_after(users_name, out_activation, *, classifier):
    """The same after an output activation that someone has set by hand: as in scikit-learn the delta is ``p - y``.

    Raises
    ------
    ValueError
        Where no loss of that name goes with it.
    """
    names = [name for name, row in LOSSES.items() if (row.users_name, row.classifier) == (users_name, classifier)]
    if not classifier:
        return names[0]
    if users_name == "log_loss":
        return "binary_log_loss" if out_activation == "logistic" else "log_loss"
    return loss_of(users_name, out_activation, classifier=True)


def make_plan(
    *,
    units,
    hidden_activation,
    out_activation,
    loss,
    solver,
    alpha=0.0,
    batch_size=1,
    dtype=np.float32,
    **hyper_parameters,
):
    """Translate a network and the way it is trained.

    Parameters
    ----------
    units : sequence of int
        Features, hidden layers, outputs.
    hidden_activation, out_activation, loss, solver : str
        Names in the tables ``ACTIVATIONS``, ``LOSSES``, ``OPTIMIZERS``; ``solver`` may be "lbfgs", for which the
        compiled code only gathers gradients.
    alpha : float
        As in the estimators.
    batch_size : int
    dtype : dtype-like
        float32 or float64.
    **hyper_parameters : float
        As in the estimators; those that the rows of solver and loss name count.

    Returns
    -------
    layout : Layout
    plan : TrainPlan
        For dense input: see `programmed`.
    """
    dtype, row = np.dtype(dtype), OPTIMIZERS.get(solver)
    constants = (
        ()
        if row is None
        else row.constants(*({**row.hyper_parameters, **hyper_parameters}[name] for name in row.hyper_parameters))
    )
    layout = make_layout(units, dtype, batch_size)
    layout.activation[:-1] = ACTIVATIONS[hidden_activation].id
    layout.activation[-1] = ACTIVATIONS[out_activation].id
    plan = TrainPlan(
        n_layers=np.int64(len(units) - 1),
        n_params=np.int64(n_params(layout)),
        moment_stride=np.int64(moment_stride(n_params(layout))),
        batch_size=np.int64(batch_size),
        max_copied_weights=np.int64(NO_LAYER),
        n_splits=np.int64(1 if solver == "lbfgs" else n_splits(units, batch_size)),
        n_shards=np.int64(1 if solver == "lbfgs" else n_shards(layout, batch_size)),
        shard_stride=np.int64(shard_stride(layout)),
        loss=np.int64(LOSSES[loss].id),
        solver=np.int64(NO_STEP if row is None else row.id),
        sink=np.int64(ADD if row is None else row.id),
        program=np.empty(0, np.int64),
        advance=np.int64(0),
        alpha=dtype.type(alpha),
        loss_constants=np.array(constants_of_loss(loss, hyper_parameters), dtype=dtype),
        optimizer=np.array(constants, dtype=dtype),
    )
    return layout, programmed(plan, sparse=False)


def constants_of_loss(loss, hyper_parameters):
    """The constants of a loss, a name in ``LOSSES``, by the estimators' names of its hyper-parameters."""
    row = LOSSES[loss]
    return row.constants(*(hyper_parameters[name] for name in row.hyper_parameters)) if row.hyper_parameters else ()


def programmed(plan, *, sparse):
    """The plan with the program of its steps, for dense or sparse X."""
    if sparse or plan.sink in SINKS:  # those passes know neither splits nor shards
        plan = plan._replace(n_splits=np.int64(1), n_shards=np.int64(1))
    verbs, behind = (ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE), STEPS_OF_BATCHES
    if sparse:
        verbs = ROWS_PASS_CSR, WEIGHTS_PASS_CSR
    elif plan.n_shards > 1:
        verbs, behind = (STEP_THEN_SHARDS,), STEPS_OF_SHARDS
    if plan.sink == ADD:
        behind = GRADIENT_OF_BATCHES
    elif plan.sink == STORE:
        verbs += (UPDATE,)
    return plan._replace(program=np.array(verbs, dtype=np.int64), advance=np.int64(behind))


def implementations_of(layout, plan=None):
    """What compiled code needs to predict with a network, or to train it by a plan; see `load_leaves`."""
    *hidden, output = layout.activation.tolist()
    needed = {(activate, ident) for ident in hidden}
    if plan is None:
        needed |= {"predict", (outputs_of_sums, output), (gather, ALL_COLUMNS)}
    else:
        needed |= {(activate_output, output)}
        kept = {ident for ident in hidden if ident in differentiate_input.implementations}
        needed |= {(differentiate, ident) for ident in hidden} | {(differentiate_input, ident) for ident in kept}
        if layout.units[-1] == 1 and hidden:
            needed |= {(single_output_backward, hidden[-1])}
            needed |= {(single_output_backward_input, ident) for ident in kept & {hidden[-1]}}
        needed |= {(loss_of_rows, int(plan.loss)), (step, int(plan.solver)), (step, int(plan.sink))}
        needed |= {(work, verb) for verb in plan.program.tolist()} | {(advance, int(plan.advance))}
        needed.discard((step, NO_STEP))
        needed |= set() if hidden else {(gather, ALL_COLUMNS)}
    return frozenset(needed)


def keeps_inputs(layout):
    """Whether one of the hidden activations keeps what it was applied to."""
    kept = {row.id for row in ACTIVATIONS.values() if row.keeps_input}
    return not kept.isdisjoint(layout.activation[:-1].tolist())


def moment_stride(n):
    """How far apart the optimizer keeps its arrays for n parameters: 336 elements more than a multiple of 1024.

    A load waits for an earlier store whose address agrees with its own modulo 4096 bytes, as if it were the same. Where
    parameters start a page, first moments 336 elements into one, second moments 672, no load meets a store. (Adam on
    4096 weights, Zen 4: 1.13 us; 3.5 us where the second moments lay 4 bytes behind the first in this sense.)
    """
    return n + (336 - n) % 1024


# Of a first layer whose sums over the features are split: features, weights, weights times rows of a batch. Networks
# with fewer weights learn a batch in parts, see `n_shards`; with less work (four operations for each weight and row,
# 1.4e6) `threads_for` gives a step to one thread.
SPLIT_FEATURES, SPLIT_WEIGHTS, SPLIT_WORK = 32, 1 << 13, 350_000
FOUR_WEIGHTS = 1 << 18  # weights from which on there are four parts


MANY_WEIGHTS, TRANSPOSING_THREADS = 1 << 16, 3
NO_LAYER = 1 << 62  # more weights than any has


def max_copied_weights(n_threads):
    """Weights of a layer from which on the backward pass turns a panel of W at a time, instead of keeping W' as a copy.

    Where tiles are narrow panels are packed anyway, and a large copy would be written to the third cache in each step.
    But each thread turns all of W for its rows. (784-512-512-10 with 128 rows, Zen 3: following the weights of the
    second layer took 183 us of a step of 6100; whole fits on one and two threads take .95 and .96 of the time so, of
    54-256-256-256-7 .86, .96 and 1.01. Not measured on more threads.)
    """
    return np.int64(MANY_WEIGHTS if few_registers() and n_threads <= TRANSPOSING_THREADS else NO_LAYER)


def n_splits(units, batch_size):
    """Parts into which a first layer's sums over the features are split; one where it is small or the only layer.

    In training, the core that has updated the weight rows of a part multiplies the next batch by them at once: neither
    these weights nor the columns of X that go with them are needed on another core. (Epochs on two threads, in parts
    against whole sums: Zen 3, medians of 25 to 40 pairs, 784-50-10 with batches of 100 in .88 of the time, 128-96-10
    with 32 in .85 to .93, 101-77-53-3 with 100 in .96 to 1.02, 100-200-1 with 200 in .98; Zen 4, 784-100-10 with 32 in
    21.4 and 23.3 ms, with 200 in 111 and 115. On one thread they take 0 to 2 % longer.) More parts let more threads do
    so, but are more to add up.
    """
    weights = units[0] * units[1]
    if len(units) == 2 or units[0] < SPLIT_FEATURES or weights < SPLIT_WEIGHTS or weights * batch_size < SPLIT_WORK:
        return 1
    return 2 if weights < FOUR_WEIGHTS else 4


FEW_WEIGHTS, MUCH_WORK, SHARD_ROWS = SPLIT_WEIGHTS, 1 << 18, 200


def n_shards(layout, batch_size):
    """Parts of a batch whose gradients are computed apart and then added; one where there are many weights or few rows.

    Threads exchange gradients then, not the activations and deltas of half the rows. (Epochs with batches of 200 on two
    cores of Zen 4, in parts against whole: of 20-100-1 in 2.4 and 3.0 ms, of 64-64-10 in .24 and .26, of 64-100-10 in
    .34 and .37.) Steps of little work go to one thread, and parts would only be more to add up.
    """
    weights = n_params(layout)
    if len(layout.units) == 2 or weights > FEW_WEIGHTS or weights * batch_size < MUCH_WORK:
        return 1
    return 2 if batch_size < 2 * SHARD_ROWS else 4


def shard_stride(layout):
    """Elements of one part's gradient, the sums over rows that become parts of it, and room: whole cache lines."""
    n = n_params(layout) + 2 * int(layout.stride.max()) + PADDING
    return -(-n // 16) * 16


def n_moments(plan):
    """Arrays of optimizer state, each as long as the parameters, that the plan needs."""
    row = next((row for row in OPTIMIZERS.values() if row.id == plan.solver), None)
    return 0 if row is None else row.n_moments(plan.optimizer)
