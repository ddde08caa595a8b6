"""L-BFGS: SciPy's minimizer on the flat parameter vector; an evaluation is the full batch's loss and gradient."""

import time

import numpy as np
import scipy
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from .blas import with_one_blas_thread
from .remarks import in_sklearns_name
from .train import FullBatch


def minimize_loss(layout, plan, params, data, *, tol, max_iter, max_fun, verbose, n_threads, evaluate=None, budget=None):
    """Minimize the loss, starting from ``params``, and write the result into them.

    SciPy keeps a float64 vector; the loss is evaluated in the network's dtype, and the BLAS runs on one thread.
    ``evaluate``, if given, is called after each iteration and returns a dict of measurements at ``params``. The time of
    ``budget``, if given, begins with the first evaluation of the loss.

    Returns
    -------
    loss : float
    n_iter : int
    history : dict of list
        The loss and the seconds of each iteration, without evaluation, and the measurements of ``evaluate``.
    remark : callable or None
        Warns as scikit-learn does if the minimizer did not converge.
    stop_reason : str
        As ``stop_reason_``.
    """
    full_batch = FullBatch(layout, plan, params, data, n_threads=n_threads)

    def objective(vector):
        params[...] = vector
        loss = full_batch()
        return loss, full_batch.gradient.astype(np.float64)

    history = {"loss": [], "seconds": []}
    clock, reasons = [time.perf_counter()], []

    def note(intermediate_result):  # SciPy looks at the argument's name
        history["loss"].append(float(intermediate_result.fun))
        history["seconds"].append(time.perf_counter() - clock[0])
        if evaluate is not None:
            params[...] = intermediate_result.x
            for name, value in evaluate().items():
                history.setdefault(name, []).append(value)
        clock[0] = time.perf_counter()
        if budget is not None and budget.spent():
            reasons.append("max_seconds")
            raise StopIteration  # which SciPy takes for the end

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < (1, 15):  # later versions print nothing
        options["iprint"] = 1 if verbose else -1
    start = params.astype(np.float64)
    if budget is not None:
        budget.begin()
    how = dict(method="L-BFGS-B", jac=True, options=options, callback=note)
    result = with_one_blas_thread(minimize, objective, start, **how)
    params[...] = result.x
    remark = None if reasons else in_sklearns_name(_check_optimize_result, "lbfgs", result, max_iter)
    reasons.append("max_iter" if result.status == 1 else "tol")  # 1: also for `max_fun`
    return float(result.fun), min(result.nit, max_iter), history, remark, reasons[0]
