"""The plan of a network's training: names become ids, parameters become constants, shapes choose the program.

Modules that import this one know names and sizes; compiled code knows only ids, scalars of exact type and arrays.
"""

import numpy as np

from .core.engine.programs import (
    CLIPPED_STEPS,
    GRADIENT_OF_BATCHES,
    ROWS_PASS_CSR,
    ROWS_PASS_DENSE,
    ROWS_PASS_DROPPED,
    STEP_THEN_SHARDS,
    STEPS_OF_BATCHES,
    STEPS_OF_SHARDS,
    UPDATE,
    WEIGHTS_PASS_CSR,
    WEIGHTS_PASS_DENSE,
    WEIGHTS_PASS_DROPPED,
    advance,
    work,
)
from .core.nn.activations import (
    activate,
    activate_output,
    differentiate,
    differentiate_input,
    outputs_of_sums,
    single_output_backward,
    single_output_backward_input,
)
from .core.nn.losses import LOSSES, loss_of_rows
from .core.nn.network import DROPPED_BACKWARD, DROPPED_FORWARD, GATHER_ROWS, dropped_pass, gather
from .core.nn.optimizers import ADD, DECAYED, NO_STEP, OPTIMIZERS, SINKS, STEP_AND_AVERAGE, STORE_SCALED, step
from .core.nn.update import after_sink
from .core.records import TrainPlan
from .core.simd.target import few_registers
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
from .spec import PADDING, NetworkSpec, n_params

NO_LIMIT = 1 << 62  # more weights than any layer has


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


# Settings of the step of every solver, and their values where there are none.
STEP_OPTIONS = {"weight_decay": 0.0, "max_grad_norm": None, "ema_decay": None}


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
    dropout=(),
    **settings,
):
    """Layout and plan of a network and its training.

    Parameters
    ----------
    units, dropout : sequence
        Numbers of features, hidden units, outputs; rates of all but the outputs, or none.
    hidden_activation, out_activation, loss, solver : str
        Names in ``ACTIVATIONS`` (or a tuple, one a hidden layer), ``LOSSES`` and ``OPTIMIZERS`` (or "lbfgs").
    alpha, batch_size, dtype, **settings
        As in the estimators; of the settings those are used that STEP_OPTIONS and the rows of solver and loss name.

    Returns
    -------
    layout, plan : Layout, TrainPlan
        For dense input: see `programmed`.
    """
    dtype, row = np.dtype(dtype), OPTIMIZERS.get(solver)
    optimizer, options = constants_of(row, settings, dtype), {**STEP_OPTIONS, **settings}
    max_norm, ema_decay = options["max_grad_norm"], options["ema_decay"]
    ident, optimizer_id, sink = _solver_and_sink(row, options["weight_decay"], max_norm, ema_decay)
    layout = NetworkSpec(units, hidden_activation, out_activation, dtype).layout(batch_size)
    plan = TrainPlan(
        n_layers=np.int64(len(units) - 1),
        n_params=np.int64(n_params(layout)),
        moment_stride=np.int64(moment_stride(n_params(layout), n_state_arrays(row, optimizer, ema_decay))),
        batch_size=np.int64(batch_size),
        max_copied_weights=np.int64(NO_LIMIT),
        n_splits=np.int64(n_splits(units, batch_size)),
        n_shards=np.int64(n_shards(layout, batch_size)),
        shard_stride=np.int64(shard_stride(layout)),
        loss=np.int64(LOSSES[loss].id),
        solver=np.int64(ident),
        optimizer_id=np.int64(optimizer_id),
        sink=np.int64(sink),
        program=np.empty(0, np.int64),
        advance=np.int64(0),
        alpha=dtype.type(alpha),
        max_norm=dtype.type(np.inf if max_norm is None else max_norm),
        ema_weight=dtype.type(1.0 - ema_decay if ema_decay else 0.0),
        dropout=np.array(dropout, dtype=np.float64),
        loss_constants=constants_of(LOSSES[loss], settings, dtype),
        optimizer=optimizer,
    )
    return layout, programmed(plan, sparse=False)


def _solver_and_sink(row, weight_decay, max_grad_norm, ema_decay):
    """Ids of the solver, of the one that it averages, and of what takes the gradient; ``row`` is None under L-BFGS.

    The strength of the weight decay is in the step scalars.
    """
    if row is None:
        return NO_STEP, NO_STEP, ADD
    own = row.id + (DECAYED if weight_decay else 0)
    solver = STEP_AND_AVERAGE if ema_decay else own
    return solver, own, solver if max_grad_norm is None else STORE_SCALED


def constants_of(row, hyper_parameters, dtype):
    """The constants of a row of ``LOSSES`` or ``OPTIMIZERS``, None for no row, rounded once."""
    if row is None:
        return np.empty(0, dtype)
    given = {**row.hyper_parameters, **hyper_parameters}
    return np.array(row.constants(*(given[name] for name in row.hyper_parameters)), dtype=dtype)


def programmed(plan, *, sparse):
    """The plan with the program of its steps, for dense or sparse X."""
    dropped = copies_input(plan)
    if sparse or dropped or plan.sink in SINKS:  # these programs have neither splits nor shards
        plan = plan._replace(n_splits=np.int64(1), n_shards=np.int64(1))
    verbs, serial = (ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE), STEPS_OF_BATCHES
    if sparse:
        verbs = ROWS_PASS_CSR, WEIGHTS_PASS_CSR
    elif dropped:
        verbs = ROWS_PASS_DROPPED, WEIGHTS_PASS_DROPPED
    elif plan.n_shards > 1:
        verbs, serial = (STEP_THEN_SHARDS,), STEPS_OF_SHARDS
    if plan.sink == ADD:
        serial = GRADIENT_OF_BATCHES
    elif plan.sink in SINKS:
        verbs, serial = (*verbs, UPDATE), CLIPPED_STEPS if plan.sink == STORE_SCALED else serial
    return plan._replace(program=np.array(verbs, dtype=np.int64), advance=np.int64(serial))


def copies_input(plan):
    """Whether entries of X are dropped, so that a step reads a copy; a single layer reads copies in any case."""
    return plan.dropout.size > 1 and plan.dropout[0] > 0


def implementations_of(layout, plan=None):
    """Implementations and groups of leaves that a prediction needs, or training by a plan; see `jit.load_leaves`."""
    *hidden, output = layout.activation.tolist()
    needed = {(activate, ident) for ident in hidden}
    if plan is None:
        needed |= {"predict", (outputs_of_sums, output), (gather, GATHER_ROWS)}
    else:
        needed |= {(activate_output, output)}
        kept = {ident for ident in hidden if ident in differentiate_input.implementations}
        needed |= {(differentiate_input if ident in kept else differentiate, ident) for ident in hidden}
        if layout.units[-1] == 1 and hidden:
            last = hidden[-1]
            needed |= {(single_output_backward_input if last in kept else single_output_backward, last)}
        needed |= {(loss_of_rows, int(plan.loss))}
        needed |= {(step, int(ident)) for ident in (plan.solver, plan.optimizer_id, plan.sink)}
        needed |= {(work, verb) for verb in plan.program.tolist()} | {(advance, int(plan.advance))}
        if copies_input(plan):
            needed.add((work, WEIGHTS_PASS_DENSE))
        if plan.sink == STORE_SCALED:
            needed |= {(after_sink, STORE_SCALED), (advance, STEPS_OF_BATCHES)}
        if plan.dropout.size:
            needed |= {(dropped_pass, DROPPED_FORWARD), (dropped_pass, DROPPED_BACKWARD)}
        needed.discard((step, NO_STEP))
        needed |= set() if hidden else {(gather, GATHER_ROWS)}
    return frozenset(needed)


def moment_stride(n, rows):
    """Distance of the optimizer's state arrays for n parameters: 336 elements more than a multiple of 1024.

    Three rows or more: 128 elements more, so that each of them lies apart from the parameters.

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
    return np.int64(MANY_WEIGHTS if few_registers() and n_threads <= TRANSPOSING_THREADS else NO_LIMIT)


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
    """Number of arrays of optimizer state, each as long as the parameters; moving averages are the last."""
    return n_state_arrays(_optimizer_of(plan), plan.optimizer, plan.ema_weight)


def n_state_arrays(row, constants, averaged):
    """`n_moments` of a row of ``OPTIMIZERS``, or None, and whether there are moving averages."""
    return 0 if row is None else row.n_moments(constants) + bool(averaged)


def averaging_beta(plan):
    """beta_1 where the optimizer keeps schedule-free averages, else None."""
    row = _optimizer_of(plan)
    return plan.optimizer[0] if row is not None and row.averages else None


def _optimizer_of(plan):
    return next((row for row in OPTIMIZERS.values() if row.id == plan.optimizer_id % DECAYED), None)
