"""L-BFGS: SciPy's minimizer over the flat parameter vector, one full-batch loss and gradient per evaluation."""

import numpy as np
import scipy
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from .train import FullBatch


def minimize_loss(layout, plan, params, data, *, tol, max_iter, max_fun, verbose, n_threads):
    """Minimize from ``params`` on and leave the result in them. Warns as scikit-learn does if that takes too long.

    SciPy keeps a float64 vector; the loss is evaluated in the network's dtype.

    Returns
    -------
    loss : float
    n_iter : int
    """
    evaluate = FullBatch(layout, plan, params, data, n_threads=n_threads)

    def objective(vector):
        params[...] = vector
        loss = evaluate()
        return loss, evaluate.gradient.astype(np.float64)

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < (1, 15):  # later versions print nothing
        options["iprint"] = 1 if verbose else -1
    result = minimize(objective, params.astype(np.float64), method="L-BFGS-B", jac=True, options=options)
    n_iter = _check_optimize_result("lbfgs", result, max_iter)
    params[...] = result.x
    return float(result.fun), n_iter
