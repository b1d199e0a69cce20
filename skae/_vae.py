"""The variational autoencoder as a scikit-learn transformer."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ._base import SUMMARY_ROWS, BaseAutoencoder, check_count
from ._schema import COUNTS, UNIT_INTERVAL, Block
from ._torch import derive_seeds, make_generator, to_numpy
from .model._conditional import PROPOSALS
from .model._evidence import expected_cells, log_evidence, weighted_codes
from .model._mixture import MOST_ROWS, choose_mixture
from .model._stack import StackedDensity
from .network._autoencoders import VariationalAutoencoder
from .network._build import Architecture, around_linear_model
from .network._cells import Cells
from .network._importance import log_prob, normal_points
from .network._layers import ModuleFactory
from .network._likelihoods import LIKELIHOODS, Binary, Categorical, LearnedNoise
from .network._normal import (
    gaussian_draws,
    gaussian_kl,
    gaussian_log_prob,
    standard_normal,
)
from .network._objectives import DEFENCE, EvidenceBound
from .network._outputs import Output, Standardised, assemble
from .network._priors import GaussianMixture, Prior, StandardNormal
from .training._loop import FEWEST_EPOCHS
from .training._rows import Rows

NOISE_FLOOR = 0.01  # of a column's standard deviation
RULED = 5.0  # times what its quartiles say, a deviation is that of a few rows
ALIVE_NATS = 0.1  # that a component tells in the linear model, to be missed if it dies
ACTIVE_NATS = 0.01  # KL below which a component tells nothing of a row
STACKING_ROWS = 1_000  # held-out rows that weigh the densities
STACKING_POINTS = 50
LEAST_JUDGES = 10  # rows that can tell a mixture of several parts from a lucky one
DIED = (
    "{} of {} components of the code died in training: they tell less than {} nats of "
    "a row. Set n_components={}, or keep them alive with a lower beta, with "
    "free_bits=0.1 or with kl_warmup=20."
)


class VAETransformer(BaseAutoencoder):
    """Dimensionality reduction and density of a table by a variational autoencoder.

    The encoder gives each row a Gaussian over codes, the decoder each code a density
    over rows, and training raises the evidence lower bound (ELBO) [1]_. Both start at
    probabilistic PCA, for which the bound is the log-likelihood itself [2]_ [3]_, and
    learn a network on top. The decoder predicts the noise of each cell beside its mean.
    What `score_samples` gives is a mixture of the VAE, of probabilistic PCA and, where
    held-out rows are likelier with it, of a Gaussian mixture [8]_.

    Parameters
    ----------
    n_components : int, float in (0, 1) or "auto", default=2
        Width of the code; it may exceed the number of columns. A float is the share of
        the variance that as many linear principal components explain at least, and
        "auto" stands for 0.9. The width itself is then in `n_components_`.
    hidden_layer_sizes : array-like of int or int, default=(128, 64)
        Widths of the encoder's hidden layers; the decoder mirrors them. Wider layers,
        such as (256, 128), gain a little more for twice the time. Empty makes the
        networks affine.
    activation : {"silu", "relu", "leaky_relu", "elu", "gelu", "softplus", "tanh", \
            "logistic", "identity"}, default="silu"
        Nonlinearity of the hidden layers. On tables "silu" explains one or two per
        cent more variance than "relu" or "tanh".
    dropout : float in [0, 1), default=0.0
        Share of the hidden units that a training step leaves out.
    weight_decay : float, default=0.01
        L2 penalty on the networks' weight matrices, decoupled from the gradient with
        the solver "adam" (AdamW).
    l1_penalty : float, default=0.0
        L1 penalty on the same weights; it draws many of them to zero.
    linear_path : bool, default=True
        Start at probabilistic PCA and add the networks to it. False gives the plain
        networks of the textbooks, without the guarantee.
    likelihood : {"gaussian", "laplace", "bernoulli", "poisson", \
            "negative_binomial"} or dict, default="gaussian"
        Density of a number given the code: normal, of heavier tails, for columns
        between 0 and 1, or for counts. A dict names it for some columns, by name or by
        index, such as ``{"children": "poisson"}``; the others are "gaussian". Columns
        of two levels are Bernoulli, those of more a softmax.
    categorical_features : "from_dtype", None, or array-like of bool, int or str, \
            default="from_dtype"
        Which columns hold levels, as in `HistGradientBoostingClassifier`. By default
        the columns of a dataframe of text, categories, enums or booleans, and no
        column of an array. A mask, indices or names say it outright; with None all
        columns must be numbers.
    scaling : {"auto", "standard", "minmax", "quantile"} or None, default="auto"
        How numbers are brought to one scale inside: zero mean and unit variance; the
        range [0, 1]; the scores that their ranks would have in a normal sample, for
        columns with heavy tails, skew or spikes; or not at all. "auto" is "minmax" for
        "bernoulli"; for other numbers "standard", so that the start is probabilistic
        PCA of the table, or "quantile" in a table that has columns of levels too.
        Counts are always "standard". Outputs come back in the units of the table.
    beta : float, default=1.0
        Weight of the KL term. More than one gives simpler codes, less than one better
        reconstructions [4]_; the bound is a likelihood at one alone.
    kl_warmup : int, default=0
        Epochs over which `beta` rises from zero. The start at probabilistic PCA needs
        none.
    free_bits : float, default=0.0
        Nats of KL per component that cost nothing, against components that die [5]_.
    prior : {"normal", "mixture"}, default="mixture"
        Density of the codes: standard normal, or a learned mixture of Gaussians that
        starts as the standard normal. Codes of few components gain most.
    n_prior_components : int, default=10
        Parts of the mixture.
    n_particles : int, default=3
        Draws of the code per row and step. More than one makes the bound the
        importance-weighted one [6]_, which is tighter; three gain 0.1 to 0.3 nats on
        one, for up to half as much time again.
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        AdamW; stochastic gradient descent with Nesterov momentum; or limited-memory
        BFGS over the whole table, for small tables.
    learning_rate : float or "auto", default="auto"
        Highest rate of the schedule, which rises for 100 steps and falls to zero at the
        end. "auto" is 0.005, 0.05 and 1 for the three solvers.
    momentum : float in [0, 1), default=0.9
        Of the solver "sgd".
    batch_size : int or "auto", default="auto"
        Rows per gradient step; "auto" is 128.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. "auto" makes 3,000 gradient steps, and at least five
        epochs, since an epoch of a small table is a step or two. 0 keeps the start.
    tol : float, default=0.0
        Decrease of the validation loss from which on it counts as an improvement.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement after which training winds down. "auto" makes 400
        gradient steps.
    early_stopping : bool, default=True
        Whether to end before `max_iter` when the validation loss has ceased to
        improve. The best weights seen are what comes back in either case.
    validation_fraction : float in (0, 1) or None, default=0.1
        Share of the rows, up to 5,000, held out to judge the weights, unless `fit`
        gets `X_val`.
        None trains on all rows and judges by them: nothing then guards against
        overfitting.
    encoder, decoder : callable or None, default=None
        A picklable ``(n_inputs, n_outputs) -> torch.nn.Module`` that makes the network
        of one direction, in place of the hidden layers above. The encoder has
        ``2 * n_components`` outputs, means and log-variances; the decoder one for each
        column that the networks see, and one more for the noise of each Gaussian or
        Laplace number. With
        `linear_path` its output passes a learned gate that starts at zero.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights and the scaling of the last fit.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the split, the batches and the noise. With an int, two fits
        on the CPU agree bit for bit.
    device : str or torch.device, default="auto"
        Where the fit runs: "auto" (an accelerator if there is one), "cpu", "cuda",
        "cuda:1", "mps", "xpu".
    verbose : int, default=0
        1 prints about twenty lines a fit, 2 a line per epoch. For a progress bar, give
        `sklearn.callback.ProgressBar()` to `set_callbacks`.

    Attributes
    ----------
    density_shares_ : dict
        Shares of the "vae", of "ppca" and of the Gaussian "mixture" in the density.
    kl_per_component_ : ndarray of shape (n_components_,)
        What each component of the code tells of a row on average, in nats: the KL
        divergence of its posterior from the prior. Near zero, it has collapsed.
    active_units_ : int
        Number of components that tell more than 0.01 nats.
    n_components_ : int
        Width of the code.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of the table's variance that each component of the code carries, in
        descending order: how far the reconstruction moves when that component is set to
        its mean, as shares of the variance that the whole reconstruction explains. At
        the start it is that of PCA, less what
        the posterior mean shrinks. From up to 5,000 rows.
    n_iter_ : int
        Epochs run, those of earlier fits included with `warm_start`.
    best_iter_ : int
        Epoch of the weights that were kept; 0 where that is the start.
    best_loss_, start_loss_ : float
        Validation loss of the weights that were kept, and of the start.
    loss_curve_ : ndarray of shape (n_iter_,)
        Mean training loss of each epoch.
    validation_curve_ : ndarray of shape (n_iter_,)
        Validation loss of the averaged weights, measured every 50 steps or more and
        repeated in the epochs between.
    module_ : torch.nn.Module
        The fitted network, between scaled columns, in single precision.
    device_ : torch.device
        Where the fitted network is: the CPU if the device of the fit is missing.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where `X` had names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Without a likelihood; the better reconstruction.
    sklearn.decomposition.FactorAnalysis : The linear model of such a density.

    Notes
    -----
    At least one per cent of the density is probabilistic PCA, the start, with levels
    that are independent of all else: no row falls more than 4.6 nats below it, however
    far it lies from the rows that the networks have seen. This holds for the likelihood
    "gaussian" with `linear_path`. On a complete table of numbers the rows that judge
    the weights also choose a Gaussian mixture (of up to 20 parts, fitted to up to 5,000
    rows of up to 200 columns or so) and its share, none if the gain is not larger than
    its standard error. Where the code is narrow and the columns are few, a mixture
    tells correlations that a code cannot. `sample` draws from the VAE and the Gaussian
    mixture by their shares; `transform`, `posterior`, `impute` and conditional samples
    are the VAE's alone.

    The predicted noise of a cell is at least 0.01 standard deviations of its column,
    and at least the standard error of rounding where its values repeat (their distance
    over √12): a column of whole numbers can then tell little more than its entropy.
    The same floor holds for the parts of the Gaussian mixture.

    A column of levels becomes one indicator per level (one in all if there are two),
    divided by one number so that their variances add up to one: for the encoder and
    the linear start a column of fifty levels weighs as much as a number. In the
    likelihood each column counts in nats, and a column tells at most its entropy.
    Levels beyond the 30 most frequent of a column, and those of fewer than three rows,
    share an indicator, and are drawn from it at their frequencies. A level that `fit`
    did not see counts as missing.

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
    >>> pets = pd.DataFrame({"kind": ["cat", "dog", None] * 20, "kg": [4, 20, 5] * 20})
    >>> vae = VAETransformer(n_components=1, random_state=0).fit(pets)
    >>> int(vae.impute(pets).isna().to_numpy().sum())
    0
    >>> vae.sample(3, random_state=0, given={"kind": "dog"}).dtypes.equals(pets.dtypes)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions(set(LIKELIHOODS)), dict],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup": [Interval(Integral, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "prior": [StrOptions({"normal", "mixture"})],
        "n_prior_components": [Interval(Integral, 1, None, closed="left")],
        "n_particles": [Interval(Integral, 1, None, closed="left")],
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
        n_particles: int = 3,
        solver: str = "adam",
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        tol: float = 0.0,
        n_iter_no_change: int | str = "auto",
        early_stopping: bool = True,
        validation_fraction: float | None = 0.1,
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
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.prior = prior
        self.n_prior_components = n_prior_components
        self.n_particles = n_particles
        self.solver = solver
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.encoder = encoder
        self.decoder = decoder
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def score_samples(self, X: Any, *, n_importance_samples: int = 100) -> np.ndarray:
        """Estimate the log-likelihood of each row, in nats; higher is more normal.

        The estimate is the importance-weighted bound of [1]_ over the same quasi-random
        points for every row: half of the codes are drawn by the encoder, half around
        the mode of the posterior (codes of up to 64 components). On average it is
        below the log-likelihood, closer with more points, and it is exact where the
        model is linear.

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
            `GaussianMixture.score_samples` give them.

        References
        ----------
        .. [1] Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted
           autoencoders. ICLR.
        """
        return self._log_density(X, n_importance_samples, tight=True)

    def elbo(self, X: Any, *, n_importance_samples: int = 100) -> np.ndarray:
        """Compute the evidence lower bound of each row, in nats.

        On average it is at most what `score_samples` gives, and lower by how far the
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
            With the ELBO of the VAE in place of its log-likelihood in the mixture.
        """
        return self._log_density(X, n_importance_samples, tight=False)

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

        def moments(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            mean, log_variance = module.posterior(cells)
            moments = torch.stack([mean, (0.5 * log_variance).exp()], dim=1)
            return moments.index_select(2, module.order)

        mean, deviation = self._map_table(X, moments).swapaxes(0, 1)
        return mean, deviation

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

    def impute(
        self,
        X: Any,
        *,
        n_draws: int | None = None,
        n_importance_samples: int = 100,
        random_state: Any = None,
    ) -> Any:
        """Fill the missing cells of a table by what its seen cells tell of them.

        Codes are drawn from the encoder and around the mode of the posterior, and
        weighted by importance [1]_. A missing number becomes its weighted mean, which
        minimises the squared error, and a missing level the most likely one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit; NaN, None and NA are missing.
        n_draws : int, default=None
            Number of tables to draw for multiple imputation [2]_: each has its missing
            cells drawn at random, so that they vary as much as they are uncertain.
        n_importance_samples : int, default=100
            Codes per row, at least 1. The same quasi-random points serve every row.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; without `n_draws` nothing is random.

        Returns
        -------
        filled : array or dataframe of shape (n_samples, n_features), or list of them
            The same table in the same container: seen cells are as they were, bit for
            bit. A column that was all missing in the fit stays as it is. With
            `n_draws`, a list of so many tables.

        References
        ----------
        .. [1] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: Deep generative modelling
           and imputation of incomplete data sets. ICML.
        .. [2] Rubin, D. B. (1987). Multiple imputation for nonresponse in surveys.
           Wiley.
        """
        check_is_fitted(self)
        check_count("n_importance_samples", n_importance_samples)
        if n_draws is not None:
            check_count("n_draws", n_draws)
        table = self._read(X)
        holed = np.isnan(table).any(axis=1)
        points = normal_points(n_importance_samples, self._n_features_out)
        if not holed.any():
            completed = [table[holed]] * (n_draws or 1)
        elif n_draws is None:
            completed = [self._expected(points, table[holed])]
        else:
            completed = self._drawn(points, table[holed], n_draws, random_state)
        filled = [self._fill(X, holed, rows) for rows in completed]
        return filled[0] if n_draws is None else filled

    def _expected(self, points: Tensor, table: np.ndarray) -> np.ndarray:
        """Return rows with the mean of each number and the likeliest levels."""

        def moments(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            n_at_once = self._chunk_rows()
            return torch.cat(expected_cells(module, cells, points, n_at_once), dim=1)

        def finish(moments: np.ndarray) -> np.ndarray:
            mean, variance = np.split(moments, 2, axis=1)
            return self._encoder.expected(mean, variance)

        rows = self._map(table, moments, self._cells, finish=finish)
        return self._encoder.within_range(rows, whole=False)

    def _drawn(
        self, points: Tensor, table: np.ndarray, n_draws: int, random_state: Any
    ) -> list[np.ndarray]:
        """Return tables of rows drawn at random given the seen cells of each."""
        seeds = derive_seeds(random_state, "codes", *map(str, range(n_draws)))
        generator = make_generator(seeds.pop("codes"), self.device_)

        def likely(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            drawn, n_at_once = [], self._chunk_rows()
            for _, z, log_weights in weighted_codes(module, cells, points, n_at_once):
                chances = log_weights.softmax(dim=0).T
                chosen = torch.multinomial(
                    chances, n_draws, replacement=True, generator=generator
                )
                drawn.append(z[chosen, torch.arange(len(chosen))[:, None]])
            return torch.cat(drawn)

        codes = self._map(table, likely, self._cells).swapaxes(0, 1)
        return list(map(self._rows_around, codes, seeds.values()))

    def _rows_around(self, codes: np.ndarray, seed: int) -> np.ndarray:
        """Draw a row of the table for each code."""
        generator = make_generator(seed, self.device_)
        numpy_generator = np.random.default_rng(seed)
        rows = self._map(
            codes,
            lambda module, cells: self._draw_rows(module, cells.values, generator),
            finish=lambda encoded: self._encoder.decode(encoded, numpy_generator),
        )
        return self._encoder.within_range(rows, whole=True)

    def _log_density(self, X: Any, n_points: int, *, tight: bool) -> np.ndarray:
        """Bound the log-density of rows in the units of the table."""
        check_is_fitted(self)
        check_count("n_importance_samples", n_points)
        points = normal_points(n_points, self._n_features_out)

        def evidence(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            n_at_once = self._chunk_rows()
            return log_evidence(module, cells, points, n_at_once, tight=tight)

        table = self._read(X)
        scores = self._map(table, evidence, self._cells)
        if self._density is not None:
            scores = self._stacked(self._density, scores, table).astype(scores.dtype)
        return scores + self._encoder.log_jacobian(table).astype(scores.dtype)

    def _stacked(
        self, density: StackedDensity, scores: np.ndarray, table: np.ndarray
    ) -> np.ndarray:
        """Mix the closed-form densities in, with levels that are independent."""
        levels = self._encoder.log_frequency(table)
        values, _ = self._encoder.encode(table)
        seen = self._seen_numbers(table)
        return levels + density.log_density(scores - levels, values, seen)

    def _numeric_kinds(self) -> dict[int | str, str]:
        if isinstance(self.likelihood, str):
            return {"": self.likelihood}
        for kind in self.likelihood.values():
            if kind not in LIKELIHOODS:
                raise ValueError(
                    f"got likelihood={self.likelihood!r} with {kind!r}, but expected "
                    f"one of {sorted(LIKELIHOODS)}."
                )
        return {"": "gaussian", **self.likelihood}

    def _scaling_of(self, kind: str) -> str | None:
        if kind in COUNTS:
            return "standard"
        if self.scaling != "auto":
            return self.scaling
        if kind in UNIT_INTERVAL:
            return "minmax"
        return "standard" if self._reader.is_numeric else "quantile"

    def _design(
        self, blocks: tuple[Block, ...], incomplete: tuple[int, ...]
    ) -> Architecture:
        n_parts = self.n_prior_components if self.prior == "mixture" else 0
        loss = str(self.likelihood)
        return Architecture.of(
            self, blocks, incomplete, loss=loss, n_prior_components=n_parts
        )

    def _build(self, generator: torch.Generator) -> VariationalAutoencoder:
        design, start = self._fitted_architecture, self._principal
        n_columns, n_codes = design.n_columns, design.n_components
        encoder = design.network(design.n_inputs, 2 * n_codes, generator, encodes=True)
        likelihood = assemble(design.blocks, self._make_likelihood)
        n_outputs = n_columns + likelihood.n_extra
        decoder = design.network(n_codes, n_outputs, generator, encodes=False)
        if design.linear_path:
            ppca = start.probabilistic()
            encoder, decoder = around_linear_model(
                encoder,
                decoder,
                likelihood,
                mean=torch.from_numpy(ppca.mean),
                projection=torch.from_numpy(ppca.projection),
                loadings=torch.from_numpy(ppca.loadings),
                column_scales=torch.from_numpy(self._column_scales()),
                code_scales=torch.ones(n_codes, dtype=torch.float64),
                log_variances=torch.from_numpy(ppca.variances).log(),
                n_flags=len(design.incomplete),
                trainable=True,
            )
        prior: Prior = StandardNormal(n_codes)
        if design.n_prior_components:
            prior = GaussianMixture(design.n_prior_components, n_codes)
        return VariationalAutoencoder(
            encoder, decoder, likelihood, prior, design.widths, design.incomplete
        )

    def _make_likelihood(self, block: Block, columns: slice) -> Output:
        """Make the likelihood of a block, its noise at that of probabilistic PCA."""
        centre = torch.from_numpy(self._encoder.centre_[columns])
        scale = torch.from_numpy(self._encoder.scale_[columns])
        if block.kind == "categorical":
            return Categorical(block.widths, centre, scale)
        if block.kind == "binary":
            return Binary(centre, scale)
        kind = LIKELIHOODS[block.kind]
        if issubclass(kind, Standardised):
            return kind(centre, scale)
        if not issubclass(kind, LearnedNoise):
            return kind()
        scales, floor = self._noise_scales(columns)
        if self._fitted_architecture.linear_path:
            scales[:] = self._principal.probabilistic().noise_variance ** 0.5
        return kind(torch.from_numpy(scales), torch.from_numpy(floor))

    def _column_scales(self) -> np.ndarray:
        """Return the deviation of each column, by its quartiles where a few rows rule.

        One row at a thousand standard deviations would make all others alike.
        """
        scales = self._principal.column_scales.copy()
        numbers = scales[: len(self._encoder.numeric_)]
        usual = self._encoder.scaler_.quartile_deviation_
        ruled = (usual > 0) & (numbers > RULED * usual)
        numbers[ruled] = usual[ruled]
        return scales

    def _noise_scales(self, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the deviation of columns of numbers, and the least of their noise."""
        scales = self._column_scales()[columns]
        rounding = self._encoder.scaler_.resolution_[columns] / 12**0.5
        floor = np.maximum(NOISE_FLOOR * scales, rounding)
        # The noise of a constant column stays where it starts: there is nothing to
        # learn it from, and it would shrink without end.
        constant = scales == 0
        scales[constant] = 1.0
        if self._fitted_architecture.linear_path:
            scales[constant] = self._principal.probabilistic().noise_variance ** 0.5
        floor[constant] = scales[constant]
        return scales, floor

    def _training_cells(self, table: np.ndarray) -> Cells:
        """Encode rows, with the log-density of probabilistic PCA where it has one.

        It has one of the numbers, and independent chances of the levels.
        """
        cells = self._cells(table)
        if not self._has_anchor():
            return cells
        log_density = self._principal.probabilistic().log_density(
            cells.values, self._seen_numbers(table)
        )
        log_density += self._encoder.log_frequency(table)
        return replace(cells, log_density=log_density)

    def _seen_numbers(self, table: np.ndarray) -> np.ndarray:
        """Tell which columns of the encoded rows hold a number that was seen."""
        seen = ~np.isnan(table[:, self._encoder.order_])
        seen[:, len(self._encoder.numeric_) :] = False
        return self._encoder.columns_of(seen)

    def _has_anchor(self) -> bool:
        """Tell whether the linear model has a density of the table's numbers."""
        kinds = set(self._encoder.kinds) - {"categorical"}
        return self._fitted_architecture.linear_path and kinds <= {"gaussian"}

    def _objective(
        self, module: VariationalAutoencoder, rows: Rows, generator: torch.Generator
    ) -> EvidenceBound:
        if not self._continues():
            module.prior.part(generator)
        return EvidenceBound(
            module,
            generator,
            beta=self.beta,
            kl_warmup=self.kl_warmup,
            free_bits=self.free_bits,
            n_particles=self.n_particles,
        )

    def _summarise(
        self, module: VariationalAutoencoder, rows: Rows, judges: Rows, seed: int
    ) -> None:
        """Measure what each component tells of a row; weigh the densities."""
        with torch.no_grad():
            cells = rows.first(SUMMARY_ROWS)
            kl = gaussian_kl(*module.posterior(cells), *module.prior.moments())
        order = to_numpy(module.order)
        self.kl_per_component_ = to_numpy(kl.mean(dim=0)).astype(np.float64)[order]
        self.active_units_ = int((self.kl_per_component_ > ACTIVE_NATS).sum())
        self._warn_of_dead_components(order)
        self._density = self._stack(module, rows, judges, seed)
        shares = [1.0, 0.0, 0.0] if self._density is None else self._density.shares
        names = ("vae", "ppca", "mixture")
        self.density_shares_ = dict(zip(names, map(float, shares), strict=True))

    def _warn_of_dead_components(self, order: np.ndarray) -> None:
        """Warn of components that tell nothing, but do in the linear model."""
        alive = -0.5 * np.log(self._principal.probabilistic().variances) > ALIVE_NATS
        died = int((alive[order] & (self.kl_per_component_ < ACTIVE_NATS)).sum())
        # Without a linear path they have to come alive first.
        if died and self.n_iter_ >= (1 if self.linear_path else FEWEST_EPOCHS):
            left = max(self.active_units_, 1)
            message = DIED.format(died, len(order), ACTIVE_NATS, left)
            warnings.warn(message, UserWarning, stacklevel=4)

    def _stack(
        self, module: VariationalAutoencoder, rows: Rows, judges: Rows, seed: int
    ) -> StackedDensity | None:
        """Choose a Gaussian mixture and its share by the rows that judge."""
        if not self._has_anchor():
            return None
        linear = self._principal.probabilistic()
        density = StackedDensity(linear, None, np.array([1 - DEFENCE, DEFENCE, 0.0]))
        if not (self.n_iter_ and self._has_judges(rows, judges)):
            return density
        cells = judges.drawn(STACKING_ROWS, seed)
        judged = to_numpy(cells.values).astype(np.float64)
        learned = to_numpy(rows.drawn(MOST_ROWS, seed).values).astype(np.float64)
        scales, floor = self._noise_scales(slice(None))
        choice = choose_mixture(learned, judged, scales, floor, seed)
        if choice is None:
            return density
        points = normal_points(STACKING_POINTS, module.prior.n_components)
        with torch.no_grad():
            scores = log_evidence(module, cells, points, self._chunk_rows())
        evidence = to_numpy(scores).astype(np.float64)
        weighed = density.weigh(evidence, judged, choice.judged)
        if weighed.mixture is None:
            return density
        return replace(weighed, mixture=choice.final)

    def _has_judges(self, rows: Rows, judges: Rows) -> bool:
        """Tell whether held-out rows of whole numbers can judge a mixture."""
        whole = rows.cells.seen is None and judges.cells.seen is None
        numeric = set(self._encoder.kinds) == {"gaussian"}
        enough = whole and numeric and len(judges) >= LEAST_JUDGES
        return enough and self._are_held_out(judges, rows)

    def _typical_codes(
        self, module: VariationalAutoencoder, cells: Cells, seed: int
    ) -> Tensor:
        mean, log_variance = module.posterior(cells)
        noise = standard_normal(mean, make_generator(seed, mean.device))
        return gaussian_draws(mean, log_variance, noise)

    def _draw_codes(
        self, module: VariationalAutoencoder, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        like = next(module.parameters())
        return module.prior.sample(
            like.new_empty(n_samples, self._n_features_out), generator
        )

    def _draw(
        self, n_samples: int, fixed: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw codes and rows, some of the rows from the mixture beside the VAE."""
        codes, rows = super()._draw(n_samples, fixed, seed)
        if fixed is None and self._density is not None:
            self._density.replace_some(rows, np.random.default_rng(seed))
        return codes, rows

    def _draw_rows(
        self, module: VariationalAutoencoder, codes: Tensor, generator: torch.Generator
    ) -> Tensor:
        return module.loss.sample(module.decoder(codes), generator)

    def _log_chance(
        self, module: VariationalAutoencoder, codes: Tensor, cells: Cells
    ) -> Tensor:
        return log_prob(module, codes, cells)

    def _propose(
        self, module: VariationalAutoencoder, cells: Cells, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw half of the codes from the prior and half from the encoder."""
        codes = self._draw_codes(module, PROPOSALS, generator)
        mean, log_variance = module.posterior(cells)
        noise = standard_normal(codes[::2], generator)
        codes[::2] = gaussian_draws(mean, log_variance, noise)
        log_prior = module.prior.log_prob(codes)
        log_encoder = gaussian_log_prob(codes, mean, log_variance)
        log_mixture = torch.logaddexp(log_prior, log_encoder) - math.log(2)
        log_weight = log_prior - log_mixture
        return codes, log_weight + self._log_chance(module, codes, cells)
