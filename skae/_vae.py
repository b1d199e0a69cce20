"""The variational autoencoder as a scikit-learn transformer."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._array_api import through_numpy
from ._base import BaseAutoencoder
from ._descent import SUMMARY_ROWS, FoldModels
from ._piecewise import piecewise
from ._schema import KINDS, Encoded, Kind
from ._validation import PARAMETERS
from .model._conditional import Density
from .model._evidence import NetworkBound, NetworkDensity
from .model._model import Model
from .model._network_stack import density_of_networks, judged_by
from .network._autoencoders import VariationalAutoencoder
from .network._design import Design
from .network._layers import LinearPath, ModuleFactory
from .network._likelihoods import LIKELIHOODS
from .network._objectives import Anchor, EvidenceBound
from .training._folds import VERY_FEW_ROWS, Split
from .training._loop import Pace
from .training._rows import FEWEST_EPOCHS, Rows

ALIVE_NATS = 0.1  # that a component tells in the linear model, to be missed if it dies
LEGIBLE_ROWS = 1000  # from which on the price of codes would cost the density
ACTIVE_NATS = 0.01  # KL below which a component tells nothing of a row
DIED = (
    "{} of {} components of the code died in training: they tell less than {} nats of "
    "a row. {} alive with a lower beta, with free_bits=0.1 or with kl_warmup=20."
)
CURE = "Set n_components={}, or keep them"
CURE_OF_ALL = "Codes then hold nothing of the table, whatever their width. Keep them"


@piecewise("score_samples", "log_evidence", "elbo", "posterior")
class VAETransformer(BaseAutoencoder):
    """Dimensionality reduction and density of a table by a variational autoencoder.

    The encoder gives each row a Gaussian over codes, the decoder each code a density
    over rows, and training raises the evidence lower bound (ELBO) [1]_. Both start at
    probabilistic PCA, for which the bound is the log-likelihood itself [2]_ [3]_, and
    learn a network on top. The decoder predicts the noise of each cell beside its mean.
    What `score_samples` gives is a stack of the networks, of probabilistic PCA and of
    Gaussian mixtures [8]_; `log_evidence` gives the networks alone.

    Parameters
    ----------
    n_components : int, float in (0, 1) or "auto", default=2
        Width of the code; it may exceed the number of columns. A float is the share of
        the variance that as many linear principal components explain at least, and
        "auto" stands for 0.9. The width itself is then in `n_components_`.
    hidden_layer_sizes : array-like of int or int, default=(128, 64)
        Widths of the encoder's hidden layers; the decoder mirrors them. Wider layers,
        such as (256, 128), gain a little more for twice the time. Empty leaves out
        hidden layers and `activation`: code and reconstruction are then affine.
    activation : str, default="silu"
        Nonlinearity of the hidden layers: "silu", "relu", "leaky_relu", "elu", "gelu",
        "softplus", "tanh", "logistic" or "identity". On tables "silu" explains one or
        two per cent more variance than "relu" or "tanh".
    dropout : float in [0, 1), default=0.0
        Share of the hidden units that a training step leaves out.
    weight_decay : float, default=0.01
        L2 penalty on the networks' weight matrices, decoupled from Adam's gradient.
    l1_penalty : float, default=0.0
        L1 penalty on the same weights; it draws many of them to zero.
    linear_path : bool, default=True
        Start at probabilistic PCA and add the networks to it. False gives the plain
        networks of the textbooks, without the guarantee.
    likelihood : str or dict, default="gaussian"
        Density of a number given the code: "gaussian", or "laplace" of heavier tails;
        "bernoulli" between 0 and 1; "poisson" or "negative_binomial" for counts. A dict
        names it for some columns, by name or index, as in ``{"children": "poisson"}``;
        the others are "gaussian". Columns of two levels are Bernoulli, those of more a
        softmax.
    categorical_features : array-like, "from_dtype" or None, default="from_dtype"
        Which columns hold levels, as in `HistGradientBoostingClassifier`. By default
        the columns of a dataframe of text, categories, enums or booleans, and no
        column of an array. A mask, indices or names say it outright; with None all
        columns must be numbers.
    scaling : {"auto", "standard", "minmax", "quantile"} or None, default="auto"
        How numbers are brought to one scale inside: zero mean and unit variance; the
        range [0, 1]; the scores that their ranks would have in a normal sample, for
        columns with heavy tails, skew or spikes; or not at all. "auto" is "minmax" for
        "bernoulli"; for other numbers "standard", so that the start is probabilistic
        PCA of the table. In a table that has columns of levels too, a number has
        "quantile" unless its values are likelier on their own scale. Counts are always
        "standard". Outputs come back in the units of the table.
    beta : float, default=1.0
        Weight of the KL term. More than one gives simpler codes, less than one better
        reconstructions [4]_; the bound is a likelihood at one alone.
    kl_warmup : int, default=0
        Epochs over which `beta` rises from zero. Weights and patience are judged from
        their end on; the "auto" of `max_iter` comes on top.
    free_bits : float, default=0.0
        Nats of KL per component that cost nothing, against components that die [5]_.
    prior : {"normal", "mixture"}, default="mixture"
        Density of the codes. The mixture, of Gaussians, is learned and starts as the
        standard normal; codes of few components gain most.
    n_prior_components : int, default=10
        Parts of the mixture.
    density : {"stacked", "networks"}, default="stacked"
        What `score_samples`, `score`, `impute` and `sample` answer from: the networks
        stacked with probabilistic PCA and Gaussian mixtures, the likeliest density of
        the table; or the networks, with the one per cent of probabilistic PCA that they
        are trained beside. To search over `n_components`, `beta` or widths, take
        "networks": a mixture that has most of the density hardly lets them be seen.
    n_particles : int, default=3
        Draws of the code per row and step. More than one makes the bound the
        importance-weighted one [6]_, which is tighter; three gain 0.1 to 0.3 nats on
        one, for up to half as much time again.
    legibility : float or "auto", default="auto"
        Price, in training, of a code that departs from that of the start: weight of the
        nats that the linear reconstruction from it loses. A likelihood gives narrow
        codes to columns that tell each other, and a model that follows misses the rest.
        The density pays up to 0.1 nats on small tables, 0.3 on large ones: "auto" falls
        from 1 to 0 from no to 1,000 training rows, if `beta` is 1 and not for "sgd".
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        AdamW; stochastic gradient descent with Nesterov momentum; or limited-memory
        BFGS over the whole table, for small tables.
    learning_rate : float or "auto", default="auto"
        Highest rate of a short rise and a fall to zero. "auto" is 0.05 for "sgd", 1 for
        "lbfgs", 0.005 for "adam" (0.012 up to 400 rows; less in layers beyond 256).
    momentum : float in [0, 1), default=0.9
        Of the solver "sgd".
    batch_size : int or "auto", default="auto"
        Rows per gradient step; "auto" is 128, up to 400 rows 64.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. "auto" makes 3,000 gradient steps (600 up to 400 rows,
        where an epoch is a few). Where these pass less than sixty times over a long
        table, it goes on while rows held out become likelier and likelier, up to sixty
        times. 0 keeps the start.
    tol : float, default=0.0
        Decrease of the validation loss from which on it counts as an improvement.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without gain that end training; "auto" makes 400 steps, of few rows 150.
    early_stopping : bool, default=True
        Whether to end before `max_iter`. The best weights seen come back in any case.
    validation_fraction : "auto", float in (0, 1) or None, default="auto"
        Share of the distinct rows, up to 5,000, held out to judge the weights, unless
        `fit` gets `X_val`; "auto" is 0.1. Up to 400 rows each third judges a network
        without it instead, and beside these trains one on all rows, for as long as they
        say, if at all. None trains on all rows and judges by them, unguarded.
    encoder, decoder : callable or None, default=None
        A picklable ``(n_inputs, n_outputs) -> torch.nn.Module`` that makes the network
        of one direction, in place of the hidden layers above. The encoder has
        ``2 * n_components`` outputs, means and log-variances; the decoder one for each
        column that the networks see, and one more for the noise of each Gaussian or
        Laplace number; logits for "bernoulli", where outputs that all lie in [0, 1] are
        understood as chances; logarithms of rates for counts. With `linear_path` it
        passes a learned gate, at zero first.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights and the scaling of the last fit, with new
        draws but, for an integer `random_state`, the same split.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the split, the batches and the noise. With an int, two fits
        on the CPU agree bit for bit.
    device : str or torch.device, default="auto"
        Where the fit runs: "auto" (an accelerator if there is one), "cpu", "cuda",
        "cuda:1", "mps", "xpu".
    verbose : int, default=0
        1 prints each phase with its time and about twenty lines of training, 2 a line
        per epoch. For a progress bar, ``pip install "skae[progress]"``, which brings
        rich, and give `sklearn.callback.ProgressBar()` to `set_callbacks`.

    Attributes
    ----------
    density_shares_ : dict
        Shares of the "vae", of "ppca" and of the Gaussian "mixture" in the density.
    kl_per_component_ : ndarray of shape (n_components,)
        What each component of the code tells of a row on average, in nats: the KL
        divergence of its posterior from the prior. Near zero, it has collapsed.
    active_units_ : int
        Number of components that tell more than 0.01 nats.
    n_components_ : int
        Width of the code.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the table's variance that each component of the code carries, in
        descending order: how far the reconstruction moves when that component is set to
        its mean, as shares of the variance that the whole reconstruction explains. At
        the start that of PCA, less what the posterior mean shrinks. From 5,000 rows.
    n_iter_ : int
        Epochs run; with `warm_start` in all fits, as in what follows.
    best_iter_ : int
        Epoch of the weights that were kept; 0 where that is the start.
    best_loss_, start_loss_ : float
        Validation loss of the weights that were kept, and of the first start.
    loss_curve_ : ndarray of shape (n_iter,)
        Mean training loss of each epoch.
    validation_curve_ : ndarray of shape (n_iter,)
        Validation loss of the averaged weights, measured every 50 steps or more and
        repeated in the epochs between.
    module_ : torch.nn.Module
        The fitted network, between scaled columns, in single precision.
    device_ : torch.device
        Where the fitted network is: the CPU if the device of the fit is missing.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in,)
        Names of the columns, where `X` had names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Without a likelihood; the better reconstruction.
    sklearn.decomposition.FactorAnalysis : The linear model of such a density.

    Notes
    -----
    Whatever is asked of rows is asked of one density: `score_samples` is the density of
    the seen cells, `impute` the mean of the others given these, `sample` draws from it,
    given cells or none. With the likelihood "gaussian" and a linear path it is a stack
    [8]_ of the networks, of probabilistic PCA with independent levels (one per cent, so
    that no row falls more than 4.6 nats below the start, and with heavy tails, so that
    one wild row does not decide a mean), and of mixtures whose parts have Gaussian
    numbers and their own chances of levels, fitted to up to 5,000 rows. Rows that judge
    decide the shares; mixtures join if these gain more than a nat in all. `transform`,
    `posterior`, `elbo` and `log_evidence` are the networks' alone.

    The predicted noise of a cell is at least 0.01 standard deviations of its column,
    and at least the standard error of rounding where its values repeat (their distance
    over √12): a column of whole numbers can then tell little more than its entropy.
    The same floor holds for the parts of the Gaussian mixture.

    A column of levels becomes one indicator per level, as by `OneHotEncoder`: in the
    linear start it weighs its Gini impurity, at most one, where a number weighs one. In
    the likelihood each column counts in nats, and a column tells at most its entropy.
    Levels beyond the 30 most frequent of a column, and those of fewer than three rows,
    share an indicator, and are drawn at their frequencies. A level that `fit` did not
    see counts as one of these, or as missing where there are none, with a warning, and
    costs what a level of one row would.

    Rows come back in the container of the fit: an array, or a dataframe of the same
    library with its names, dtypes and levels; `impute` keeps that of its table. So it
    is unless `set_output` asks for another. Codes are arrays until it does.

    NaN, None and NA are missing cells. The bound is that of the seen cells [7]_, and so
    is `score_samples`: 0 for a row of which nothing is seen. The encoder gets what the
    linear model expects in a hole, with the variance that the hole adds to the code,
    and is told of the hole where its column had some in the fit.

    References
    ----------
    .. [1] Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. ICLR.
    .. [2] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B, 61(3), 611-622.
    .. [3] Lucas, J. et al. (2019). Don't blame the ELBO! A linear VAE perspective on
       posterior collapse. NeurIPS.
    .. [4] Higgins, I. et al. (2017). beta-VAE. ICLR.
    .. [5] Kingma, D. P. et al. (2016). Improved variational inference with inverse
       autoregressive flow. NeurIPS.
    .. [6] Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted
       autoencoders. ICLR.
    .. [7] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: Deep generative modelling and
       imputation of incomplete data sets. ICML.
    .. [8] Smyth, P. and Wolpert, D. (1999). Linearly combining density estimators via
       stacking. Machine Learning 36, 59-83.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skae import VAETransformer
    >>> X = load_diabetes(scaled=False).data
    >>> vae = VAETransformer(n_components=3, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (442, 3)
    >>> vae.score(X) > VAETransformer(n_components=3, max_iter=0).fit(X).score(X)
    True
    >>> vae.sample(5, random_state=0).shape
    (5, 10)

    A table with levels and holes goes in as it is, and comes back as it was:

    >>> import pandas as pd
    >>> kinds, weights = ["cat", "dog", None] * 20, range(60)
    >>> pets = pd.DataFrame({"kind": kinds, "kg": weights})
    >>> vae = VAETransformer(n_components=1, random_state=0).fit(pets)
    >>> int(vae.impute(pets).isna().to_numpy().sum())
    0
    >>> vae.sample(3, random_state=0, given={"kind": "dog"}).dtypes.equals(pets.dtypes)
    True
    """

    _pace = Pace()
    _most_folded = VERY_FEW_ROWS  # more bear judges, and many steps of one network
    _scaling_beside_levels = "likelier"  # what is drawn has spikes and edges, too
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PARAMETERS,
        "likelihood": [StrOptions(set(LIKELIHOODS)), dict],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup": [Interval(Integral, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "prior": [StrOptions({"normal", "mixture"})],
        "n_prior_components": [Interval(Integral, 1, None, closed="left")],
        "density": [StrOptions({"stacked", "networks"})],
        "n_particles": [Interval(Integral, 1, None, closed="left")],
        "legibility": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        n_components: int | float | str = 2,
        *,
        hidden_layer_sizes: Any = (128, 64),
        activation: str = "silu",
        dropout: float = 0.0,
        weight_decay: float = 0.01,
        l1_penalty: float = 0.0,
        linear_path: bool = True,
        likelihood: str | dict[int | str, str] = "gaussian",
        categorical_features: Any = "from_dtype",
        scaling: str | None = "auto",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        prior: str = "mixture",
        n_prior_components: int = 10,
        density: str = "stacked",
        n_particles: int = 3,
        legibility: float | str = "auto",
        solver: str = "adam",
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        tol: float = 0.0,
        n_iter_no_change: int | str = "auto",
        early_stopping: bool = True,
        validation_fraction: float | str | None = "auto",
        encoder: ModuleFactory | None = None,
        decoder: ModuleFactory | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        device: str | torch.device = "auto",
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.l1_penalty = l1_penalty
        self.linear_path = linear_path
        self.likelihood = likelihood
        self.categorical_features = categorical_features
        self.scaling = scaling
        self.beta, self.kl_warmup, self.free_bits = beta, kl_warmup, free_bits
        self.prior, self.n_prior_components = prior, n_prior_components
        self.density = density
        self.n_particles = n_particles
        self.legibility = legibility
        self.solver = solver
        self.learning_rate, self.momentum = learning_rate, momentum
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.encoder, self.decoder = encoder, decoder
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def score_samples(self, X: Any, *, n_importance_samples: int = 100) -> np.ndarray:
        """Compute the log-likelihood of each row, in nats; higher is more normal.

        That of the networks, which `log_evidence` estimates, joined with the densities
        beside them by their shares, `density_shares_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        n_importance_samples : int, default=100
            Points per row, at least 1.

        Returns
        -------
        log_likelihoods : ndarray of shape (n_samples,)
            Of the rows in the units of the table, as `PCA.score_samples` and
            `GaussianMixture.score_samples` give them. Levels, counts and columns under
            "bernoulli" have a probability instead, in any units the same; of the latter
            what lies between both ends counts as a share of ones.

        Raises
        ------
        ValueError
            If a column of counts has a value that is none.
        """
        check_is_fitted(self)
        return self._told(n_importance_samples).log_density(self._read(X))

    def log_evidence(self, X: Any, *, n_importance_samples: int = 100) -> np.ndarray:
        """Estimate the log-likelihood of each row by the networks alone, in nats.

        Unlike `score_samples` it knows no density beside them. It is the
        importance-weighted bound of [1]_ over the same points for every row: half are
        drawn by the encoder, half around the mode of the posterior (codes of up to 64
        components), and of a row with missing cells a third by the prior. On average it
        is below the log-likelihood, closer with more points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        n_importance_samples : int, default=100
            Points per row, at least 1.

        Returns
        -------
        log_likelihoods : ndarray of shape (n_samples,)
            Of the seen cells, in the units of the table.

        References
        ----------
        .. [1] Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted
           autoencoders. ICLR.
        """
        check_is_fitted(self)
        told = self._told(n_importance_samples, NetworkDensity(self._model))
        return told.log_density(self._read(X))

    def elbo(self, X: Any, *, n_importance_samples: int = 100) -> np.ndarray:
        """Compute the evidence lower bound of each row by the networks, in nats.

        On average it is at most what `log_evidence` gives, and lower by how far the
        encoder's Gaussian is from the posterior of the code.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        n_importance_samples : int, default=100
            Points per row that the expectation is taken over, at least 1.

        Returns
        -------
        bounds : ndarray of shape (n_samples,)
            For the seen cells, in the units of the table.
        """
        check_is_fitted(self)
        told = self._told(n_importance_samples, NetworkBound(self._model))
        return told.log_density(self._read(X))

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute the Gaussian over codes that the encoder gives each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        mean, deviation : ndarray of shape (n_samples, n_components)
            The mean is what `transform` returns; the standard deviation says how much
            the row leaves open.
        """
        check_is_fitted(self)
        moments = self._of_rows(
            self._read(X), lambda rows, of: np.stack(self._model.posterior(of), axis=1)
        )
        return moments[:, 0], moments[:, 1]

    @through_numpy
    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of the rows, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        y : object, default=None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        score : float
            Mean of :meth:`score_samples`.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    def _kinds(self) -> tuple[Kind, dict[int | str, Kind]]:
        return _kinds_of(self.likelihood)

    def _design(self, parts: dict[str, Any]) -> Design:
        n_parts = self.n_prior_components if self.prior == "mixture" else 0
        return Design(**parts, is_variational=True, n_prior_components=n_parts)

    def _objective(
        self, module: VariationalAutoencoder, rows: Rows, generator: torch.Generator
    ) -> EvidenceBound:
        if not self._continues():
            module.prior.part(generator)
        anchor = None
        if self.linear_path and (price := _price(self, len(rows))):
            start = self._model.untrained() if self._continues() else module
            encoder = cast("LinearPath", start.encoder)
            anchor = Anchor.of(encoder, self._model.design.n_columns, price)
        return EvidenceBound(
            module,
            generator,
            beta=self.beta,
            kl_warmup=0 if self._continues() else self.kl_warmup,
            free_bits=self.free_bits,
            n_particles=self.n_particles,
            is_stacked=rows.n_members > 1,
            anchor=anchor,
        )

    def _make_density(
        self, encoded: Encoded, split: Split, judged: FoldModels, seed: int
    ) -> Density:
        """Stack the networks with closed forms, by the rows that judge."""
        told = self._model.divergences(encoded.take(split.training[:SUMMARY_ROWS]))
        self.kl_per_component_ = told.mean(axis=0)
        self.active_units_ = int((self.kl_per_component_ > ACTIVE_NATS).sum())
        # Without a linear path they have to come alive first.
        if self.n_iter_ >= (1 if self.linear_path else FEWEST_EPOCHS):
            _warn_of_dead(self._model, self.kl_per_component_)
        density = density_of_networks(
            self._model,
            judged_by(judged() or [self._model], encoded, split.cuts()),
            seed,
            alone=self.density == "networks",
            trained=self.n_iter_ > 0,
            can_judge=self.n_iter_ > 0 and split.is_held_out,
        )
        self.density_shares_ = {"vae": 0.0, "ppca": 0.0, "mixture": 0.0}
        self.density_shares_ |= density.shares
        return density


def _kinds_of(
    likelihood: str | dict[int | str, str],
) -> tuple[Kind, dict[int | str, Kind]]:
    """Return the kind of columns that are not named, and of those that are."""
    if isinstance(likelihood, str):
        return KINDS[likelihood], {}
    for kind in likelihood.values():
        if kind not in LIKELIHOODS:
            raise ValueError(
                f"got likelihood={likelihood!r} with {kind!r}, but expected one of "
                f"{sorted(LIKELIHOODS)}."
            )
    named = {column: KINDS[kind] for column, kind in likelihood.items()}
    return KINDS["gaussian"], named


def _price(estimator: VAETransformer, n_rows: int) -> float:
    """Say what codes cost that leave those of the linear start."""
    if estimator.legibility != "auto":
        return float(estimator.legibility)
    if estimator._takes_steps:  # on a chunk of a table that has more rows
        return 0.0
    # Steps of "sgd" are too large for a price that is steep.
    bears = estimator.beta == 1 and estimator.solver != "sgd"
    return max(0.0, 1 - n_rows / LEGIBLE_ROWS) if bears else 0.0


def _warn_of_dead(model: Model, nats: np.ndarray) -> None:
    """Tell of components that the linear model has use for and that tell nothing."""
    variances = model.linear.probabilistic().variances
    alive = (-0.5 * np.log(variances) > ALIVE_NATS)[model.order]
    if died := int((alive & (nats < ACTIVE_NATS)).sum()):
        left = int((nats > ACTIVE_NATS).sum())
        cure = CURE.format(left) if left else CURE_OF_ALL
        message = DIED.format(died, len(alive), ACTIVE_NATS, cure)
        warnings.warn(message, UserWarning, stacklevel=4)
