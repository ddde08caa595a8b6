"""What ``verbose`` prints beside scikit-learn's lines."""

import time


class Details:
    """The line that ``verbose=2`` adds to each epoch.

    Parameters
    ----------
    max_epochs : int
        Most epochs of this call.
    budget : stopping.Budget or None
    """

    def __init__(self, max_epochs, budget):
        self._max_epochs, self._budget, self._begin = max_epochs, budget, time.perf_counter()

    def line(self, n_epochs, measured, rate, seconds):
        """The line after ``n_epochs`` epochs: measurements, learning rate (None: there is none), seconds, time left."""
        each = (time.perf_counter() - self._begin) / n_epochs
        left = each * (self._max_epochs - n_epochs)
        if self._budget is not None:
            left = min(left, self._budget.left())
        parts = [f"{name} = {value:.6g}" for name, value in measured.items()]
        if rate is not None:
            parts.append(f"learning rate = {rate:.3g}")
        return ", ".join([*parts, f"{seconds:.3g} s", f"at most {_duration(left)} left"])

    def print_iteration(self, history):
        """Print the loss and the line of the last iteration of L-BFGS, of which SciPy prints nothing any more."""
        n, measured = len(history["loss"]), {name: values[-1] for name, values in history.items()}
        loss, seconds = measured.pop("loss"), measured.pop("seconds")
        print(f"Iteration {n}, loss = {loss:.8f}")
        print(self.line(n, measured, None, seconds))


def _duration(seconds):
    """Seconds as words: "8 s", "2 min 5 s", "3 h 10 min"."""
    seconds = max(0, round(seconds))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
