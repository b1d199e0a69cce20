"""The variational autoencoder as a scikit-learn transformer."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ._base import SUMMARY_ROWS, BaseAutoencoder, check_count
from ._conditional import PROPOSALS
from ._likelihoods import (
    LIKELIHOODS,
    Binary,
    Categorical,
    LearnedNoise,
    Output,
    Standardised,
    assemble,
    gaussian_draws,
    gaussian_kl,
    gaussian_log_prob,
    standard_normal,
)
from ._networks import (
    Architecture,
    ModuleFactory,
    VariationalAutoencoder,
    around_linear_model,
)
from ._objectives import (
    EvidenceBound,
    expected_cells,
    importance_draws,
    log_evidence,
    log_prob,
    normal_points,
)
from ._priors import GaussianMixture, Prior, StandardNormal
from ._table import COUNTS, UNIT_INTERVAL, Block
from ._torch import Cells, derive_seeds, make_generator, to_numpy
from ._training import Rows

NOISE_FLOOR = 0.01  # of a column's standard deviation
ACTIVE_NATS = 0.01  # KL below which a component tells nothing of a row


class VAETransformer(BaseAutoencoder):
    """Dimensionality reduction and density of a table by a variational autoencoder.

    The encoder gives each row a Gaussian over codes, the decoder each code a density
    over rows, and training raises the evidence lower bound (ELBO) [1]_. Both start at
    probabilistic PCA, for which the bound is the log-likelihood itself [2]_ [3]_, and
    learn a network on top; the noise of each column is learned too.

    Parameters
    ----------
    n_components : int, default=2
        Width of the code. It may exceed the number of columns.
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
    prior : {"normal", "mixture"}, default="normal"
        Density of the codes: standard normal, or a learned Gaussian mixture.
    n_prior_components : int, default=10
        Parts of the mixture.
    n_particles : int, default=1
        Draws of the code per row and step. More than one makes the bound the
        importance-weighted one [6]_, which is tighter.
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
        ``2 * n_components`` outputs, means and log-variances. With
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
    kl_per_component_ : ndarray of shape (n_components,)
        What each component of the code tells of a row on average, in nats: the KL
        divergence of its posterior from the prior. Near zero, it has collapsed.
    active_units_ : int
        Number of components that tell more than 0.01 nats.
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
    One per cent of the density is probabilistic PCA, the start, with levels that are
    independent of all else: no row falls more than 4.6 nats below it, however far it
    lies from the rows that the networks have seen. This holds for the likelihood
    "gaussian" with `linear_path` and `beta` one. `sample` draws from the networks
    alone.

    The noise of a column is at least 0.01 of its standard deviation, and at least the
    standard error of rounding where its values repeat (their distance over √12): a
    column of whole numbers can then tell about its entropy and no more.

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
        n_components: int = 2,
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
        prior: str = "normal",
        n_prior_components: int = 10,
        n_particles: int = 1,
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
        points for every row. On average it is below the log-likelihood, closer with
        more points, and it is exact where the model is linear.

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
        check_is_fitted(self)
        check_count("n_importance_samples", n_importance_samples)
        points = normal_points(n_importance_samples, self._n_features_out)

        def evidence(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            return log_evidence(module, cells, points.to(cells.values))

        table = self._read(X)
        chunk_rows = max(1, self._chunk_rows() // n_importance_samples)
        scores = self._map(table, evidence, self._scored_cells, chunk_rows=chunk_rows)
        return scores + self._encoder.log_jacobian(table).astype(scores.dtype)

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

        Codes are drawn from the encoder and weighted by importance [1]_. A missing
        number becomes its weighted mean, which minimises the squared error, and a
        missing level the most likely one.

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
        points = normal_points(n_importance_samples, self._n_features_out)
        if n_draws is None:
            return self._fill(X, table, partial(self._expected, points))
        seeds = derive_seeds(random_state, *map(str, range(n_draws)))
        draws = [partial(self._drawn, points, seed) for seed in seeds.values()]
        return [self._fill(X, table, draw) for draw in draws]

    def _expected(self, points: Tensor, table: np.ndarray) -> np.ndarray:
        """Return rows with the mean of each number and the likeliest levels."""

        def moments(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            noise = points.to(cells.values)[:, None, :]
            return torch.cat(expected_cells(module, cells, noise), dim=1)

        def finish(moments: np.ndarray) -> np.ndarray:
            mean, variance = np.split(moments, 2, axis=1)
            return self._encoder.expected(mean, variance)

        rows = self._map(
            table,
            moments,
            self._cells,
            finish=finish,
            chunk_rows=max(1, self._chunk_rows() // len(points)),
        )
        return self._encoder.within_range(rows, whole=False)

    def _drawn(self, points: Tensor, seed: int, table: np.ndarray) -> np.ndarray:
        """Return rows drawn at random given the seen cells of each."""
        generator = make_generator(seed, self.device_)
        numpy_generator = np.random.default_rng(seed)

        def draw(module: VariationalAutoencoder, cells: Cells) -> Tensor:
            noise = points.to(cells.values)[:, None, :]
            codes, log_weights = importance_draws(module, cells, noise)
            chosen = torch.multinomial(
                log_weights.softmax(dim=0).T, 1, generator=generator
            )
            codes = codes[chosen[:, 0], torch.arange(len(chosen))]
            return self._draw_rows(module, codes, generator)

        rows = self._map(
            table,
            draw,
            self._cells,
            finish=lambda encoded: self._encoder.decode(encoded, numpy_generator),
            chunk_rows=max(1, self._chunk_rows() // len(points)),
        )
        return self._encoder.within_range(rows, whole=True)

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
        decoder = design.network(n_codes, n_columns, generator, encodes=False)
        likelihood = assemble(design.blocks, self._make_likelihood)
        if design.linear_path:
            ppca = start.probabilistic()
            encoder, decoder = around_linear_model(
                encoder,
                decoder,
                likelihood,
                mean=torch.from_numpy(ppca.mean),
                projection=torch.from_numpy(ppca.projection),
                loadings=torch.from_numpy(ppca.loadings),
                column_scales=torch.from_numpy(start.column_scales),
                code_scales=torch.ones(n_codes, dtype=torch.float64),
                log_variances=torch.from_numpy(ppca.variances).log(),
                n_flags=len(design.incomplete),
                trainable=True,
            )
        prior: Prior = StandardNormal(n_codes)
        if design.n_prior_components:
            prior = GaussianMixture(design.n_prior_components, n_codes, generator)
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
        column_scales = torch.from_numpy(self._principal.column_scales[columns])
        varies = column_scales > 0
        spread = torch.where(varies, column_scales, 1.0)
        if self._fitted_architecture.linear_path:
            noise = self._principal.probabilistic().noise_variance ** 0.5
            spread = torch.full_like(spread, noise)
        # The noise of a constant column stays where it starts: there is nothing to
        # learn it from, and it would shrink without end.
        rounding = torch.from_numpy(self._encoder.scaler_.resolution_[columns])
        floor = torch.maximum(NOISE_FLOOR * column_scales, rounding / 12**0.5)
        floor = torch.where(varies, floor, torch.inf)
        return kind(spread, floor)

    def _scored_cells(self, table: np.ndarray) -> Cells:
        """Encode rows, with the log-density of probabilistic PCA where it has one.

        It has one of the numbers, and independent chances of the levels.
        """
        cells = self._cells(table)
        if not self._has_anchor():
            return cells
        seen = ~np.isnan(table[:, self._encoder.order_])
        seen[:, len(self._encoder.numeric_) :] = False
        linear = self._principal.probabilistic()
        log_density = linear.log_density(cells.values, self._encoder.columns_of(seen))
        log_density += self._encoder.log_frequency(table)
        return replace(cells, log_density=log_density)

    def _has_anchor(self) -> bool:
        """Tell whether the linear model has a density of the table's numbers."""
        kinds = set(self._encoder.kinds) - {"categorical"}
        return self._fitted_architecture.linear_path and kinds <= {"gaussian"}

    def _objective(
        self, module: VariationalAutoencoder, rows: Rows, generator: torch.Generator
    ) -> EvidenceBound:
        return EvidenceBound(
            module,
            generator,
            beta=self.beta,
            kl_warmup=self.kl_warmup,
            free_bits=self.free_bits,
            n_particles=self.n_particles,
        )

    def _summarise(self, module: VariationalAutoencoder, rows: Rows, seed: int) -> None:
        """Measure what each component of the code tells of a row, in nats."""
        with torch.no_grad():
            cells = rows.first(SUMMARY_ROWS)
            kl = gaussian_kl(*module.posterior(cells), *module.prior.moments())
        self.kl_per_component_ = to_numpy(kl.mean(dim=0)).astype(np.float64)
        self.active_units_ = int((self.kl_per_component_ > ACTIVE_NATS).sum())

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
