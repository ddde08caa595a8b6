"""The classifier."""

from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if

from . import parameters
from ._base import BaseMLP, is_stochastic
from .labels import LabelMixin
from .predict import ClassPredictionMixin


class MLPClassifier(ClassPredictionMixin, LabelMixin, ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier, trained by compiled kernels.

    A drop-in for ``sklearn.neural_network.MLPClassifier``: minimizes the cross-entropy of two classes (one logistic
    output), of several classes (softmax) or of several labels per row (one logistic output each). Other losses and
    outputs can be asked for.

    Parameters
    ----------
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
        sooner where it makes no progress, see ``n_iter_no_change``.
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
        Whether to print a line per epoch.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights. The optimizer starts anew.
    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1]; not used by other solvers.
    nesterovs_momentum : bool, default=True
        Whether that momentum is Nesterov's.
    early_stopping : bool, default=False
        Whether to stop when the accuracy (or ``scoring``) on validation data has not improved by ``tol`` for
        ``n_iter_no_change`` epochs, and to return to the weights of the best epoch, see ``restore_best``. The data are
        those given to ``fit``; without such, ``validation_fraction`` of the rows is held out, see
        ``validation_stratify``. Not used by "lbfgs".
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
    loss : {"log_loss", "squared_error", "focal"}, default="log_loss"
        What is minimized, the mean over rows. "log_loss" is the cross-entropy; after logistic outputs the sum over
        outputs of their binary cross-entropies. "squared_error" is ``0.5 * sum((a - y) ** 2)`` over the outputs a of a
        row and its one-hot (or multi-label) targets y. It is a sum, not a mean: after logistic outputs the delta is
        ``(a - y) * a * (1 - a)``. "focal" (Lin et al. 2017) is ``-(1 - p) ** focal_gamma * log(p)`` of the probability
        p of what is right: the row's class; after logistic outputs, each label by itself, and summed.
    out_activation : {"auto", "softmax", "logistic"}, default="auto"
        Activation of the outputs. "auto": as in scikit-learn, "softmax" for three or more classes, "logistic" for two
        and for multi-label targets. "softmax": one output for each class, also of two; ``y`` may be one-hot rows, which
        then train exactly as the numbers of their columns would, and ``predict`` returns one-hot rows. "logistic": one
        output for each class where there are three or more, and ``predict`` takes the largest.
    n_jobs : int or None, default=None
        Threads. None: all that the process may use and the work is worth; k: at most k; -1: all, -2: all but one. The
        result is the same, bit for bit, for every number.
    dtype : {"float32", "float64", "match"}, default="float32"
        Type of the weights and of training. "match" is scikit-learn's rule, and gives its numbers: float32 for float32
        X, else float64. "float32" is as accurate on scaled data, and about twice as fast. "lbfgs" computes in float64
        in any case, and gives its weights in this type.
    metrics : tuple or list of str, default=()
        Names of scorers, see ``sklearn.metrics.get_scorer_names()``, to be recorded in ``history_`` after each epoch:
        on the training data under their name, on validation data as ``"val_" + name``. Costs one forward pass over the
        training rows an epoch, however many names (a third to a half of the epoch), and the metrics' own time. Sample
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
    scoring : None, "loss", str or callable, default=None
        What "val_score" of ``history_`` is, and what early stopping and ``restore_best`` judge by; not used where there
        are no validation data. None: the accuracy. "loss": the negative validation loss, so that a lower loss is
        better. A name of ``sklearn.metrics.get_scorer_names()``, or a scorer ``scoring(estimator, X, y)`` whose result
        is better the higher it is; it is also given ``sample_weight`` where there are weights and it takes them.
    restore_best : {"auto", True, False}, default="auto"
        Whether ``fit`` ends with the weights of the best epoch. "auto": with early stopping, as in scikit-learn. True:
        of the best epoch of this call, by "val_score" where there are validation data, else by the training loss; under
        "lbfgs", whose training loss only falls, by "val_score". False: the weights of the last epoch are kept.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes in the loss, ``{label: weight}``, 1 for classes not named; they multiply
        ``sample_weight``. "balanced": ``n_samples / (n_classes * count)`` by the rows of ``fit``; not in
        ``partial_fit``. Multi-label targets take a list with a dict for each label, ``[{0: 1, 1: 5}, ...]``, or
        "balanced", and the weights of a row's labels are multiplied. One-hot rows under ``out_activation="softmax"``
        take a dict by column. Only ratios count, except against ``alpha``. As in scikit-learn's gradient boosting,
        losses and scores (``metrics`` too) of the rows of X carry these weights, those that early stopping holds out
        included; validation data given to ``fit`` carry ``sample_weight_val`` alone.
    validation_stratify : {"auto", True, False}, default="auto"
        Whether the rows that early stopping holds out have the classes' shares of all rows. "auto": of two classes, as
        in scikit-learn; True: of any number of classes, or of rows of labels; False: never.
    label_smoothing : float, default=0.0
        For ``loss="log_loss"``, in [0, 1): targets become ``(1 - label_smoothing) * y + label_smoothing / k``, where k
        is the number of classes, and 2 for each logistic output (Szegedy et al. 2016). ``loss_curve_`` and "val_loss"
        in ``history_`` are the loss of these targets, as that of PyTorch's ``CrossEntropyLoss(label_smoothing=...)``;
        so they do not go to 0. ``metrics=["neg_log_loss"]`` records that of the labels.
    focal_gamma : float, default=2.0
        How much ``loss="focal"`` turns from what is already right, >= 0; with 0 it is the log loss.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels in order; the column numbers for multi-label and one-hot targets.
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
    out_activation_ : str
        Activation of the output: "logistic" or "softmax".
    loss_ : float
        Loss of the last epoch (under "lbfgs" the final loss), penalty included.
    best_loss_ : float or None
        Smallest loss of an epoch; None with early stopping. Not set by "lbfgs".
    loss_curve_ : list of float
        Loss of each epoch: that of the mini-batches before they are learned from, averaged. Not set by "lbfgs".
    validation_loss_curve_ : list of float or None
        Loss of the validation data after each epoch: those given to ``fit``, or the rows that early stopping holds out.
        It holds no penalty, unlike ``loss_curve_``. ``history_["val_loss"]`` itself; None where there are no such data.
    validation_scores_ : list of float or None
        Accuracy, or ``scoring``, on the validation data after each epoch; None without early stopping. Not set by
        "lbfgs".
    best_validation_score_ : float or None
        The best of them.
    history_ : dict of list of float
        What was measured in each epoch, one entry an epoch; a warm start and ``partial_fit`` go on with the lists.

        - "loss": as in ``loss_curve_``;
        - "learning_rate": the rate of the epoch's last step, Adam's before its correction of the bias;
        - "seconds": wall time of training, evaluation excluded; a process's first epoch loads compiled code as well;
        - "val_loss", "val_score": loss without penalty, and accuracy or ``scoring``, of the validation data after the
          epoch, where there are some: those given to ``fit``, or the rows that early stopping holds out;
        - each name in ``metrics``, after the epoch, and "val_" + name where there are validation data.

        NaN stands for what an epoch did not measure. Under "lbfgs" an entry is an iteration, "loss" is that of all rows
        after it, and there is no rate.
    n_iter_ : int
        Epochs, or iterations, of the last call.
    t_ : int
        Rows learned from so far, counted with repetition.

    See Also
    --------
    MLPRegressor : The same network for regression.

    Notes
    -----
    Results follow ``sklearn.neural_network.MLPClassifier`` of version 1.9, its quirks included, except:

    - Weights and training are float32 unless ``dtype`` says otherwise, whatever comes in; "lbfgs" computes in float64.
      Predictions have the float type of X, as there, and are computed in float64 from the network's last sums. What
      float32 cannot learn from, values or squares of gradients, is refused by name.
    - A loss that is not finite ends training at once with that message; with early stopping the best weights so far are
      restored instead, where there are some.
    - A mini-batch whose sample weights sum to zero makes no step.
    - With ``warm_start`` or ``partial_fit``, asking for other layer sizes raises ``ValueError`` before any work.
    - A ``fit`` that fails leaves an earlier fit as it was.

    Examples
    --------
    >>> from fastnn import MLPClassifier
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X[:80], y[:80])
    >>> clf.predict(X[80:]).shape
    (20,)
    >>> clf.coefs_[0].dtype, clf.predict_proba(X[80:]).dtype
    (dtype('float32'), dtype('float64'))
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - scikit-learn's convention
        **BaseMLP._parameter_constraints,
        **parameters.CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        rho=0.9,
        init="glorot_uniform",
        init_scale=None,
        init_bias="match",
        loss="log_loss",
        out_activation="auto",
        n_jobs=None,
        dtype="float32",
        metrics=(),
        weight_decay=0.0,
        max_grad_norm=None,
        warmup=0,
        decay_rate=0.1,
        decay_every=10,
        n_hidden_layers=None,
        scoring=None,
        restore_best="auto",
        class_weight=None,
        validation_stratify="auto",
        label_smoothing=0.0,
        focal_gamma=2.0,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            rho=rho,
            init=init,
            init_scale=init_scale,
            init_bias=init_bias,
            n_jobs=n_jobs,
            dtype=dtype,
            metrics=metrics,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            warmup=warmup,
            decay_rate=decay_rate,
            decay_every=decay_every,
            n_hidden_layers=n_hidden_layers,
            scoring=scoring,
            restore_best=restore_best,
        )
        self.loss = loss
        self.out_activation = out_activation
        self.class_weight = class_weight
        self.validation_stratify = validation_stratify
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma

    def _validate_params(self):
        super()._validate_params()
        parameters.check_smoothing(self.loss, self.label_smoothing)

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Learn from one pass over the given data, going on with the weights and the optimizer of earlier calls.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels; not all classes need to occur.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever occur. Needed in the first call.

        Returns
        -------
        self : object
            The updated estimator.
        """
        return self._mlp_learn(X, y, sample_weight, incremental=True, classes=classes)

    # ---- what BaseMLP asks for ---------------------------------------------------------------------------------------
    def _mlp_objective(self):
        if self.out_activation != "auto":
            return self.loss, self.out_activation
        return self.loss, "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
