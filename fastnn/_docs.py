"""Docstring entries that both estimators share."""

import re
from textwrap import indent


def with_common_entries(cls):
    """Replace each line ``%(name)s`` of a class docstring by the entry of that name in ``COMMON``."""
    if cls.__doc__ is not None:  # python -OO has none
        entries = {re.match(r"\w+", entry)[0]: entry for entry in re.split(r"\n(?=\w)", COMMON.strip())}
        # From Python 3.13 on docstrings are not indented.
        fill = lambda line: indent(entries[line[2]], line[1])  # noqa: E731
        cls.__doc__ = re.sub(r"^( *)%\((\w+)\)s$", fill, cls.__doc__, flags=re.MULTILINE)
    return cls


# Name, legal values and default, then the text; "a, b" is one entry for two parameters, found under "a".
COMMON = """
hidden_layer_sizes : int or array-like of int, default=(100,)
    Units of each hidden layer; a number is one layer, or ``n_hidden_layers`` of them, an empty list no hidden
    layer.
activation : str or list of str, default="relu"
    Activation of the hidden layers, one name for all or a list with one for each: "identity" z, "relu" max(z, 0),
    "tanh" tanh(z), "logistic" s(z) = 1 / (1 + exp(-z)), "softplus" log(1 + exp(z)), "leaky_relu" max(z, 0.01 z),
    "elu" exp(z) - 1 where z < 0, else z, "selu" 1.7581 (exp(z) - 1) where z < 0, else 1.0507 z, "silu" z s(z),
    "mish" z tanh(softplus(z)), "gelu" z P(N <= z) of a standard normal N (exact), "hard_swish"
    z min(max(z + 3, 0), 6) / 6.
solver : {"lbfgs", "sgd", "adam", "rmsprop", "nadam", "adagrad", "lion", "schedulefree"}, default="adam"
    "lbfgs" takes the whole data set in each step and suits small data; the others learn from mini-batches.

    - "rmsprop" (Tieleman & Hinton, 2012) divides each gradient g by the root of its decaying mean square:
      ``v = rho * v + (1 - rho) * g ** 2; w -= rate * g / (sqrt(v) + epsilon)``;
    - "nadam" (Dozat, 2016): Adam with Nesterov's momentum, as in PyTorch;
    - "adagrad" (Duchi et al., 2011): ``v += g ** 2; w -= rate * g / (sqrt(v) + epsilon)``; wants a rate near 0.01;
    - "lion" (Chen et al., 2023): ``w -= rate * sign(beta_1 * m + (1 - beta_1) * g)``, then
      ``m = beta_2 * m + (1 - beta_2) * g``; wants a smaller rate than "adam", and the paper has ``beta_2=0.99``;
    - "schedulefree" (Defazio et al., 2024): AdamW that needs no decaying rate; ``coefs_`` are averages x of the
      weights z of all steps, and gradients are taken at ``(1 - beta_1) * z + beta_1 * x``.
alpha : float, default=0.0001
    Strength of the L2 penalty on the weights, not the biases; divided by the batch size where it enters the loss.
batch_size : int or "auto", default="auto"
    Rows of a mini-batch; "auto" is ``min(200, n_samples)``. Not used by "lbfgs".
learning_rate : {"constant", "invscaling", "adaptive", "cosine", "onecycle", "exponential", "step", "coslog"} or \
        callable, default="constant"
    Schedule of the rate. scikit-learn's are used by "sgd" alone, and others take a constant rate: "constant" keeps
    ``learning_rate_init``; "invscaling" sets ``learning_rate_init / (t_ + 1) ** power_t`` after each epoch;
    "adaptive" divides the rate by 5 whenever ``n_iter_no_change`` consecutive epochs bring no progress of ``tol``,
    and stops below 1e-6. The rest go with all solvers but "lbfgs", ``learning_rate_init`` is their peak:

    - "cosine": ``(1 + cos(pi * t)) / 2`` times the peak, where t in [0, 1) is the share of the steps of
      ``max_iter`` epochs that are done (Loshchilov & Hutter, 2017);
    - "onecycle": linearly from a tenth to the peak in the first fifth of the steps, then a cosine to 0;
    - "coslog": ``(1 - cos(2 * pi * log2(1 + 15 * t))) / 2`` times the peak (Holzmüller et al., 2024);
    - "exponential": ``decay_rate ** (epoch / decay_every)`` times the peak, with epochs counted from 0;
    - "step": the same with the whole part of the quotient;
    - a function of the epoch, counted from 0, that returns the rate. To pickle the estimator it must be picklable.

    The first three end: each ``partial_fit`` counts as an epoch, and one beyond ``max_iter`` is refused. A fit ends
    sooner where it makes no progress, see ``n_iter_no_change``; one that comes to its end gives no
    ``ConvergenceWarning``.
learning_rate_init : float, default=0.001
    Initial or highest learning rate; not used by "lbfgs".
power_t : float, default=0.5
    Exponent of "invscaling".
max_iter : int, default=200
    Most epochs, or iterations of "lbfgs".
shuffle : bool, default=True
    Whether rows are shuffled before each epoch.
random_state : int, RandomState instance or None, default=None
    Draws the initial weights, the split of early stopping and the shuffles, in scikit-learn's order: the same seed
    gives scikit-learn's trajectory up to rounding.
tol : float, default=1e-4
    Progress that counts: smaller gains of the loss (or of the validation score) are no progress. For "lbfgs" the
    gradient tolerance.
verbose : bool or int, default=False
    Whether to print scikit-learn's lines for each epoch. 2 adds a line with the validation loss, what ``metrics``
    names, the learning rate, the seconds of training, and the time left until ``max_iter`` or ``max_seconds``.
warm_start : bool, default=False
    Whether ``fit`` goes on from the present weights. The optimizer starts anew, unless the last ``fit`` ended for
    ``stop_reason_`` "max_seconds", "interrupted" or "callback": then this one goes on exactly where it was, up to
    ``max_iter`` epochs in all, and has the same bits as one that was never stopped, also from a pickle in another
    process. Data and parameters must be the same (but ``max_iter``, where no schedule ends with it, ``max_seconds``,
    ``n_jobs`` and ``verbose``), else the optimizer starts anew. "lbfgs" always does.
momentum : float, default=0.9
    Momentum of "sgd", in [0, 1]; not used by other solvers.
nesterovs_momentum : bool, default=True
    Whether that momentum is Nesterov's.
validation_fraction : float, default=0.1
    Share of the data held out, in [0, 1); not used where ``fit`` is given validation data.
beta_1, beta_2 : float, default=0.9, 0.999
    Decay of the first and second moment of "adam", "nadam" and "schedulefree", in [0, 1); see "lion" too.
epsilon : float, default=1e-8
    Added to the root that a step is divided by; not used by "sgd" and "lion".
n_iter_no_change : int, default=10
    Epochs without progress that are tolerated; ``np.inf`` for any number.
max_fun : int, default=15000
    Most evaluations of the loss by "lbfgs".
rho : float, default=0.9
    Decay of the mean square of "rmsprop", in [0, 1).
init : {"glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "normal"}, \
        default="glorot_uniform"
    Distribution of the initial weights, of mean 0. "glorot_uniform" is scikit-learn's: uniform within
    sqrt(6 / (fan_in + fan_out)), or sqrt(2 / (fan_in + fan_out)) where ``activation`` is "logistic"; "he_uniform":
    within sqrt(6 / fan_in). The others are normal, not truncated, with the standard deviation
    sqrt(2 / (fan_in + fan_out)) ("glorot_normal"), sqrt(2 / fan_in) ("he_normal"), sqrt(1 / fan_in)
    ("lecun_normal") or ``init_scale`` ("normal"). Sources: Glorot & Bengio 2010, He et al. 2015, LeCun et al. 1998.
init_scale : float, default=None
    Standard deviation of ``init="normal"``, > 0; None for every other ``init``.
init_bias : {"match", "zeros"}, default="match"
    Whether biases are drawn from the distribution of their layer's weights, as in scikit-learn, or are 0.
n_jobs : int or None, default=None
    Threads. None: as many as the work is worth, at most those that the process may use (affinity, a container's quota
    of processors, OMP_NUM_THREADS unless NUMBA_NUM_THREADS is set); k: at most k; -1: as many as there are processors,
    counted as joblib does, -2: all but one. The result is the same, bit for bit, for every number.
dtype : {"float32", "float64", "match"}, default="float32"
    Type of the weights and of training. "match" is scikit-learn's rule, and gives its numbers: float32 for float32
    X, else float64. "float32" is as accurate on scaled data, and about twice as fast. "lbfgs" computes in float64
    in any case, and gives its weights in this type.
metrics : str, or tuple or list of str, default=()
    Name or names of scorers, see ``sklearn.metrics.get_scorer_names()``, to be recorded in ``history_`` after each
    epoch: on the training data under their name, on validation data as ``"val_" + name``. Costs one forward pass over
    the training rows an epoch, however many names (a third to a half of the epoch), and the metrics' own time. Sample
    weights count where the metric takes them.
weight_decay : float, default=0.0
    Decoupled weight decay (Loshchilov & Hutter, 2019), of any solver but "lbfgs": each step also subtracts
    ``rate * weight_decay * w`` from the weights, not from biases. Unlike ``alpha`` it is no part of the loss, and
    is not divided by the batch size. ``solver="adam"`` with it is AdamW; set ``alpha=0`` then.
max_grad_norm : float or None, default=None
    Largest Euclidean norm of a step's gradient, L2 penalty included; a longer one is scaled down to it, over all
    weights and biases together, as by PyTorch's ``clip_grad_norm_``. Not with "lbfgs".
warmup : float, default=0
    Epochs in which the rate rises linearly, step by step, to what ``learning_rate`` says; the schedules that it
    names begin behind them. Not with "lbfgs".
decay_rate : float, default=0.1
    Factor of the schedules "exponential" and "step", in (0, 1].
decay_every : float, default=10
    Epochs in which those multiply the rate by ``decay_rate``.
n_hidden_layers : int or None, default=None
    How many hidden layers of ``hidden_layer_sizes`` units there are, >= 0, where that is one number, so that
    searches can vary width and depth as two numbers: ``hidden_layer_sizes=64, n_hidden_layers=3`` is (64, 64, 64).
    None: ``hidden_layer_sizes`` says all.
restore_best : {"auto", True, False}, default="auto"
    Whether ``fit`` ends with the weights of the best epoch. "auto": with early stopping, as in scikit-learn. True:
    of the best epoch of this call, by "val_score" where there are validation data, else by the training loss; under
    "lbfgs", whose training loss only falls, by "val_score". False: the weights of the last epoch are kept.
dropout : float or list of float, default=0.0
    Share of the units of each hidden layer that are zero in a training step, in [0, 1), drawn anew for each step and
    row; the others are divided by ``1 - dropout``, and predictions drop nothing (Srivastava et al., 2014). A list has
    a rate for the input and for each hidden layer, ``[0.2, 0.5, 0.5]``; inputs of sparse X cannot be dropped.
    ``loss_curve_`` is the loss with dropout. The random bits are made of a seed, which ``random_state`` draws behind
    the split of early stopping, the number of the step, the layer, the row's place in the mini-batch, and the unit.
    Not with "lbfgs".
ema_decay : float or None, default=None
    Decay d, in (0, 1), of exponential moving averages of weights and biases (Polyak & Juditsky, 1992):
    ``average = d * average + (1 - d) * w`` after each step t = 1, 2, ..., beginning as the initial weights, with
    ``min(d, (1 + t) / (10 + t))`` in place of d, as in TensorFlow. ``coefs_`` and ``intercepts_`` are the averages, and
    all scores, validation losses and metrics are theirs; ``partial_fit`` goes on with the weights themselves, or with
    ``coefs_`` where these have been changed since. Not with "lbfgs" and "schedulefree".
max_seconds : float or None, default=None
    Wall time after which ``fit`` or ``partial_fit`` ends, counted from the first step, so without checks of the data
    and compiling, but with validation. It ends after the epoch or iteration in which the time is over, or inside of a
    long epoch, after about 0.1 s more; then that epoch does not count in ``n_iter_``. No ``ConvergenceWarning`` is
    given: ``stop_reason_`` says it.
n_features_in_ : int
    Number of features.
feature_names_in_ : ndarray of str of shape (n_features_in_,)
    Names of the features, if X had names that are all strings.
coefs_ : list of ndarray of shape (fan_in, fan_out)
    Weights of each layer. They may be written into or replaced: prediction and further training follow.
intercepts_ : list of ndarray of shape (fan_out,)
    Biases of each layer; the same holds for them.
n_layers_ : int
    Number of levels: hidden layers + 2.
n_outputs_ : int
    Number of output units.
loss_ : float
    Loss of the last epoch (under "lbfgs" the final loss), penalty included.
best_loss_ : float or None
    Smallest loss of an epoch; None with early stopping. Not set by "lbfgs".
loss_curve_ : list of float
    Loss of each epoch: that of the mini-batches before they are learned from, averaged. Not set by "lbfgs".
validation_loss_curve_ : list of float or None
    Loss of the validation data after each epoch: those given to ``fit``, or the rows that early stopping holds out.
    It holds no penalty, unlike ``loss_curve_``. ``history_["val_loss"]`` itself; None where there are no such data.
best_validation_score_ : float or None
    The best of them.
n_iter_ : int
    Epochs, or iterations, of the last call.
best_epoch_ : int
    Epoch, or iteration, whose weights ``coefs_`` are, counted as ``n_iter_``: the best one where its weights are kept,
    see ``restore_best``; else the last.
t_ : int
    Rows learned from so far, counted with repetition.
stop_reason_ : str
    Why the last call ended: "max_iter", also for ``max_fun`` and after the one epoch of ``partial_fit``; "tol", no
    progress any more; "early stopping", none of the validation score; "max_seconds"; "interrupted", by Ctrl-C;
    "callback"; "diverged", where weights of an earlier epoch have been restored.
"""
