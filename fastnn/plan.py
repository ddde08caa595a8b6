"""Layout and plan of a network: names become ids, sizes become offsets.

Modules that import this one know activations by name and a network as a tuple of sizes; compiled code knows only ids,
scalars of exact type and arrays. Nothing is allocated here but these small arrays.
"""

import functools

import numpy as np

from .core.engine.programs import (
    CLIPPED_STEPS,
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
from .core.nn.optimizers import ADD, AVERAGE, DECAYED, NO_STEP, OPTIMIZERS, SINKS, step
from .core.nn.update import GROUP, after_sink
from .core.records import Layout, TrainPlan
from .core.simd.target import LINE_BYTES, VECTOR_BYTES, few_registers
from .core.tuning import (
    FOUR_SPLITS_WEIGHTS,
    MANY_WEIGHTS,
    SHARD_ROWS,
    SHARD_WEIGHTS,
    SHARD_WORK,
    SPLIT_FEATURES,
    SPLIT_WEIGHTS,
    SPLIT_WORK,
    TRANSPOSING_THREADS,
)

PADDING = 64  # elements of padding behind every buffer, since tiles load and store whole vectors
CONFLICT_BYTES = (
    512  # rows a multiple of this apart fall into few sets of L1: they get one more cache line between them
)
NO_LAYER = 1 << 62  # more weights than any layer has


def padded_stride(n, itemsize):
    """Leading dimension for rows of ``n`` elements: whole vectors, and no multiple of `CONFLICT_BYTES`."""
    lanes = VECTOR_BYTES // itemsize
    stride = -(-n // lanes) * lanes
    if stride * itemsize % CONFLICT_BYTES == 0:
        stride += LINE_BYTES // itemsize
    return stride


def make_layout(units, dtype, n_rows):
    """Offsets of a network's parameters, and of its activations and deltas for ``n_rows`` rows.

    Parameters
    ----------
    units : sequence of int
        Units of each level: features, hidden layers, outputs.
    dtype : numpy.dtype
    n_rows : int
        Rows of a batch or block.

    Returns
    -------
    Layout
        ``activation`` is all zeros; `make_plan` fills it in. The other arrays are read-only.
    """
    offsets = _offsets(tuple(map(int, units)), dtype, int(n_rows))
    return offsets._replace(activation=np.zeros(len(units) - 1, dtype=np.int64))


@functools.lru_cache(maxsize=128)
def _offsets(units, dtype, n_rows):
    """`make_layout` without activations. (It takes 20 us, and `partial_fit` with 200 rows 650.)"""
    units = np.asarray(units, dtype=np.int64)
    fan_in, fan_out = units[:-1], units[1:]
    strides = np.array([padded_stride(int(n), dtype.itemsize) for n in units], dtype=np.int64)
    ends = np.cumsum(fan_in * fan_out + fan_out)
    weight = ends - (fan_in * fan_out + fan_out)
    levels = _starts(strides[:-1] * n_rows)
    deltas = _starts(strides[1:] * n_rows)
    copies = strides[:-1] * fan_out
    copies[0] = 0
    layout = Layout(
        units=units,
        stride=strides,
        weight=weight,
        bias=weight + fan_in * fan_out,
        activation=np.empty(0, dtype=np.int64),
        level=np.append(levels, 0),
        delta=np.append(0, deltas),
        transposed=_starts(copies),
        squares=_starts(-(-fan_in // GROUP)),
    )
    for array in layout:
        array.flags.writeable = False
    return layout


def without_input(layout):
    """The layout without activations of level 0, for networks that read the rows of X in place."""
    return layout._replace(level=np.maximum(layout.level - layout.level[1], 0))


def _starts(sizes):
    return np.cumsum(sizes) - sizes


def n_params(layout):
    """Number of weights and biases."""
    return int(layout.bias[-1] + layout.units[-1])


def loss_of(users_name, out_activation, *, classifier):
    """Name in ``LOSSES`` of the loss that an estimator calls ``users_name``, with the given output activation.

    Raises
    ------
    ValueError
        When there is no such pair of loss and output activation; the message lists the legal pairs.
    """
    own = {name: row for name, row in LOSSES.items() if row.classifier == classifier and row.users_name}
    pairs = {(row.users_name, row.output): name for name, row in own.items()}
    if (users_name, out_activation) not in pairs:
        legal = ", ".join(f"loss={loss!r} with out_activation={out!r}" for loss, out in pairs)
        raise ValueError(f"loss={users_name!r} does not go with out_activation={out_activation!r}; legal are {legal}.")
    return pairs[users_name, out_activation]


def loss_after(users_name, out_activation, *, classifier):
    """`loss_of` with an output activation that someone has set by hand: as in scikit-learn the delta is ``p - y``.

    Raises
    ------
    ValueError
        When there is no such pair.
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
    weight_decay=0.0,
    max_grad_norm=None,
    **hyper_parameters,
):
    """Layout and plan of a network and its training.

    Parameters
    ----------
    units : sequence of int
        Features, hidden layers, outputs.
    hidden_activation : str or tuple of str
        Name in ``ACTIVATIONS``, or one for each hidden layer.
    out_activation, loss, solver : str
        Names in ``ACTIVATIONS``, ``LOSSES``, ``OPTIMIZERS``, or "lbfgs", for which gradients are only added up.
    dtype : dtype-like
        float32 or float64.
    alpha, batch_size, weight_decay, max_grad_norm, **hyper_parameters : number
        As in the estimators; those hyper-parameters are used that the rows of solver and loss name.

    Returns
    -------
    layout : Layout
    plan : TrainPlan
        For dense input: see `programmed`.
    """
    dtype, row = np.dtype(dtype), OPTIMIZERS.get(solver)
    optimizer = constants_of(row, hyper_parameters, dtype)
    ident, sink = _solver_and_sink(row, weight_decay, max_grad_norm)  # the strength of decay is in the step scalars
    layout = make_layout(units, dtype, batch_size)
    layout.activation[:] = activation_ids(hidden_activation, out_activation, len(units) - 1)
    plan = TrainPlan(
        n_layers=np.int64(len(units) - 1),
        n_params=np.int64(n_params(layout)),
        moment_stride=np.int64(moment_stride(n_params(layout), 0 if row is None else row.n_moments(optimizer))),
        batch_size=np.int64(batch_size),
        max_copied_weights=np.int64(NO_LAYER),
        n_splits=np.int64(n_splits(units, batch_size)),
        n_shards=np.int64(n_shards(layout, batch_size)),
        shard_stride=np.int64(shard_stride(layout)),
        loss=np.int64(LOSSES[loss].id),
        solver=np.int64(ident),
        sink=np.int64(sink),
        program=np.empty(0, np.int64),
        advance=np.int64(0),
        alpha=dtype.type(alpha),
        max_norm=dtype.type(np.inf if max_grad_norm is None else max_grad_norm),
        loss_constants=constants_of(LOSSES[loss], hyper_parameters, dtype),
        optimizer=optimizer,
    )
    return layout, programmed(plan, sparse=False)


def _solver_and_sink(row, weight_decay, max_grad_norm):
    """Ids of the solver, and of what takes the gradient; ``row`` is the optimizer's, None under L-BFGS."""
    if row is None:
        return NO_STEP, ADD
    solver = row.id + (DECAYED if weight_decay else 0)
    return solver, solver if max_grad_norm is None else AVERAGE


def activation_ids(hidden_activation, out_activation, n_layers):
    """Ids in ``ACTIVATIONS`` of all layers; ``hidden_activation`` as in `make_plan`.

    Raises
    ------
    ValueError
        When a name is none of an activation's, with the legal ones.
    """
    hidden = (hidden_activation,) * (n_layers - 1) if isinstance(hidden_activation, str) else hidden_activation
    for name in hidden:
        _check_name("activation", name, [legal for legal, row in ACTIVATIONS.items() if row.hidden])
    _check_name("out_activation_", out_activation, ACTIVATIONS)
    return [ACTIVATIONS[name].id for name in (*hidden, out_activation)]


def _check_name(what, name, legal):
    if name not in legal:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, legal))}, got {name!r}.")


def constants_of(row, hyper_parameters, dtype):
    """The constants of a row of ``LOSSES`` or ``OPTIMIZERS``, None for no row, rounded once."""
    if row is None:
        return np.empty(0, dtype)
    given = {**row.hyper_parameters, **hyper_parameters}
    return np.array(row.constants(*(given[name] for name in row.hyper_parameters)), dtype=dtype)


def programmed(plan, *, sparse):
    """The plan with the program of its steps, for dense or sparse X."""
    if sparse or plan.sink in SINKS:  # these programs have neither splits nor shards
        plan = plan._replace(n_splits=np.int64(1), n_shards=np.int64(1))
    verbs, serial = (ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE), STEPS_OF_BATCHES
    if sparse:
        verbs = ROWS_PASS_CSR, WEIGHTS_PASS_CSR
    elif plan.n_shards > 1:
        verbs, serial = (STEP_THEN_SHARDS,), STEPS_OF_SHARDS
    if plan.sink == ADD:
        serial = GRADIENT_OF_BATCHES
    elif plan.sink in SINKS:
        verbs, serial = (*verbs, UPDATE), CLIPPED_STEPS if plan.sink == AVERAGE else serial
    return plan._replace(program=np.array(verbs, dtype=np.int64), advance=np.int64(serial))


def implementations_of(layout, plan=None):
    """Implementations and groups of leaves that a prediction needs, or training by a plan; see `jit.load_leaves`."""
    *hidden, output = layout.activation.tolist()
    needed = {(activate, ident) for ident in hidden}
    if plan is None:
        needed |= {"predict", (outputs_of_sums, output), (gather, ALL_COLUMNS)}
    else:
        needed |= {(activate_output, output)}
        kept = {ident for ident in hidden if ident in differentiate_input.implementations}
        needed |= {(differentiate_input if ident in kept else differentiate, ident) for ident in hidden}
        if layout.units[-1] == 1 and hidden:
            last = hidden[-1]
            needed |= {(single_output_backward_input if last in kept else single_output_backward, last)}
        needed |= {(loss_of_rows, int(plan.loss)), (step, int(plan.solver)), (step, int(plan.sink))}
        needed |= {(work, verb) for verb in plan.program.tolist()} | {(advance, int(plan.advance))}
        if plan.sink == AVERAGE:
            needed |= {(after_sink, AVERAGE), (advance, STEPS_OF_BATCHES)}
        needed.discard((step, NO_STEP))
        needed |= set() if hidden else {(gather, ALL_COLUMNS)}
    return frozenset(needed)


def keeps_inputs(layout):
    """Whether one of the hidden activations keeps its input."""
    kept = {row.id for row in ACTIVATIONS.values() if row.keeps_input}
    return not kept.isdisjoint(layout.activation[:-1].tolist())


def moment_stride(n, rows):
    """Distance of the optimizer's state arrays for n parameters: 336 elements more than a multiple of 1024.

    Three rows: 128 elements more, so that each of them lies apart from the parameters.

    A load waits for an earlier store to an address that is the same modulo 4096 bytes. Parameters start a page, first
    moments 336 elements into a page, second moments 672, so no load waits for a store. (Adam on 4096 weights, Zen 4:
    1.13 us; 3.5 us where the second moments lay 4 bytes behind the first modulo 4096.)
    """
    return n + ((128 if rows > 2 else 336) - n) % 1024


def max_copied_weights(n_threads):
    """Number of weights from which on the backward pass transposes panels of W on the fly, without a copy W'.

    Where tiles are narrow panels are packed anyway, and a large copy would be written to L3 in each step. But each
    thread transposes all of W for its rows.
    """
    return np.int64(MANY_WEIGHTS if few_registers() and n_threads <= TRANSPOSING_THREADS else NO_LAYER)


def n_splits(units, batch_size):
    """Number of splits of the first layer's sums over the features; one where it is small or the only layer.

    In training, the core that has updated the weights of a split multiplies the next batch by them at once: no other
    core needs these weights and these columns of X.
    """
    weights = units[0] * units[1]
    if len(units) == 2 or units[0] < SPLIT_FEATURES or weights < SPLIT_WEIGHTS or weights * batch_size < SPLIT_WORK:
        return 1
    return 2 if weights < FOUR_SPLITS_WEIGHTS else 4


def n_shards(layout, batch_size):
    """Number of shards of a batch; one where there are many weights or few rows.

    With shards, threads exchange gradients, not the activations and deltas of the other threads' rows. Steps of little
    work run on one thread, where shards would only be more to add up.
    """
    weights = n_params(layout)
    if len(layout.units) == 2 or weights > SHARD_WEIGHTS or weights * batch_size < SHARD_WORK:
        return 1
    return 2 if batch_size < 2 * SHARD_ROWS else 4


def shard_stride(layout):
    """Elements of one shard's gradient, of `single_output_sums` and of padding, in whole cache lines."""
    n = n_params(layout) + 2 * int(layout.stride.max()) + PADDING
    return -(-n // 16) * 16


def n_moments(plan):
    """Number of arrays of optimizer state, each as long as the parameters."""
    row = _optimizer_of(plan)
    return 0 if row is None else row.n_moments(plan.optimizer)


def averaging_beta(plan):
    """beta_1 where the optimizer keeps schedule-free averages, else None."""
    row = _optimizer_of(plan)
    return plan.optimizer[0] if row is not None and row.averages else None


def _optimizer_of(plan):
    return next((row for row in OPTIMIZERS.values() if row.id == plan.solver % DECAYED), None)
