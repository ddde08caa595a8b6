"""L-BFGS: SciPy's minimizer on the flat parameter vector; an evaluation is the full batch's loss and gradient."""

import time

import numpy as np
import scipy
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from .blas import with_one_blas_thread
from .progress_lines import Details
from .remarks import in_sklearns_name
from .train import FullBatch


def minimize_loss(
    layout, plan, params, data, *, limits, verbose, n_threads, history, evaluate=None, budget=None, tasks=None
):
    """Minimize the loss, starting from ``params``, and write the result into them.

    SciPy keeps a float64 vector; the loss is evaluated in the network's dtype, and the BLAS runs on one thread.

    ``limits`` are the tolerance of the gradient, most iterations and most evaluations of the loss. ``history`` gets the
    loss and the seconds of each iteration, without evaluation, and what ``evaluate``, called after each, returns of
    ``params``. The `stopping.Budget` begins with the first evaluation of the loss; `callbacks.Tasks` are told of the
    iterations.

    Returns the loss, the number of iterations, None or a function that warns as scikit-learn does if the minimizer did
    not converge, and the reason for ``stop_reason_``.
    """
    full_batch = FullBatch(layout, plan, params, data, n_threads=n_threads)

    def objective(vector):
        if tasks is not None and not tasks.is_open:
            tasks.begin()  # here, since nobody knows after an iteration whether another one follows
        params[...] = vector
        loss = full_batch()
        return loss, full_batch.gradient.astype(np.float64)

    clock, reasons, details = [time.perf_counter()], [], Details(limits[1], budget) if verbose > 1 else None

    def note(intermediate_result):  # SciPy looks at the argument's name
        history["loss"].append(float(intermediate_result.fun))
        history["seconds"].append(time.perf_counter() - clock[0])
        if evaluate is not None or tasks is not None:
            params[...] = intermediate_result.x
        if evaluate is not None:
            for name, value in evaluate().items():
                history.setdefault(name, []).append(value)
        if details is not None:
            details.print_iteration(history)
        if tasks is not None and tasks.end():
            reasons.append("callback")
        if budget is not None and budget.spent():
            reasons.append("max_seconds")
        clock[0] = time.perf_counter()
        if reasons:
            raise StopIteration  # which SciPy takes for the end

    tol, max_iter, max_fun = limits
    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < (1, 15):  # later versions print nothing
        options["iprint"] = 1 if verbose else -1
    start = params.astype(np.float64)
    if budget is not None:
        budget.begin()
    how = dict(method="L-BFGS-B", jac=True, options=options, callback=note)
    result = with_one_blas_thread(minimize, objective, start, **how)
    params[...] = result.x
    if tasks is not None:
        tasks.close()
    remark = None if reasons else in_sklearns_name(_check_optimize_result, "lbfgs", result, max_iter)
    reasons.append("max_iter" if result.status == 1 else "tol")  # 1: also for `max_fun`
    return float(result.fun), min(result.nit, max_iter), remark, reasons[0]
