"""The variational autoencoder as a scikit-learn transformer."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ._base import SUMMARY_ROWS, BaseAutoencoder
from ._likelihoods import (
    LIKELIHOODS,
    GaussianMixture,
    LearnedNoise,
    Likelihood,
    LinearGaussian,
    Prior,
    StandardNormal,
    gaussian_kl,
)
from ._linear import PrincipalComponents
from ._networks import (
    Architecture,
    LinearPath,
    ModuleFactory,
    VariationalAutoencoder,
)
from ._objectives import (
    DEFENCE,
    EvidenceBound,
    log_evidence,
    normal_points,
)
from ._torch import to_numpy
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
    likelihood : {"gaussian", "laplace", "bernoulli"}, default="gaussian"
        Density of a column given the code: normal, of heavier tails, or for columns
        between 0 and 1.
    scaling : {"auto", "standard", "minmax"} or None, default="auto"
        How columns are brought to one scale inside: zero mean and unit variance, the
        range [0, 1], or not at all. "auto" is "minmax" for "bernoulli" and "standard"
        otherwise. Outputs come back in the units of the table.
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
        Share of the rows held out to judge the weights, unless `fit` gets `X_val`.
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
    One per cent of the density is probabilistic PCA, the start: no row falls more than
    4.6 nats below it, however far it lies from the rows that the networks have seen.
    This holds for the likelihood "gaussian" with `linear_path` and `beta` one.

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
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions(set(LIKELIHOODS))],
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
        likelihood: str = "gaussian",
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
        if n_importance_samples < 1:
            raise ValueError(
                f"got n_importance_samples={n_importance_samples!r}, but expected at "
                "least 1."
            )
        points = normal_points(n_importance_samples, self._n_features_out)

        def evidence(module: VariationalAutoencoder, encoded: Tensor) -> Tensor:
            return log_evidence(module, encoded, points.to(encoded))

        chunk_rows = max(1, self._chunk_rows() // n_importance_samples)
        scores = self._map_table(X, evidence, chunk_rows)
        return scores + self._scaler.log_jacobian()

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

    def _loss_class(self) -> type[Likelihood]:
        return LIKELIHOODS[self.likelihood]

    def _architecture(self, n_features: int) -> Architecture:
        n_parts = self.n_prior_components if self.prior == "mixture" else 0
        return Architecture.of(
            self, n_features, loss=self.likelihood, n_prior_components=n_parts
        )

    def _build(
        self,
        architecture: Architecture,
        start: PrincipalComponents,
        generator: torch.Generator,
    ) -> VariationalAutoencoder:
        n_features, n_codes = architecture.n_features, architecture.n_components
        encoder = architecture.network(n_features, 2 * n_codes, generator, encodes=True)
        decoder = architecture.network(n_codes, n_features, generator, encodes=False)
        column_scales = torch.from_numpy(start.column_scales)
        spread = torch.where(column_scales > 0, column_scales, 1.0)
        anchor = None
        if architecture.linear_path:
            ppca = start.posterior()
            mean = torch.from_numpy(start.mean)
            projection = torch.from_numpy(ppca.projection)
            log_variances = torch.from_numpy(ppca.variances).log()
            output, slope = LIKELIHOODS[architecture.loss].tangent(mean)
            encoder = LinearPath(
                projection,
                torch.cat([-projection @ mean, log_variances]),
                encoder,
                input_centre=mean,
                input_scale=column_scales,
                output_scale=torch.ones(2 * n_codes),
                trainable=True,
            )
            decoder = LinearPath(
                slope[:, None] * torch.from_numpy(ppca.loadings),
                output,
                decoder,
                input_centre=torch.zeros(n_codes),
                input_scale=torch.ones(n_codes),
                output_scale=slope * column_scales,
                trainable=True,
            )
            spread = torch.full_like(column_scales, ppca.noise_variance**0.5)
            if architecture.loss == "gaussian":
                anchor = LinearGaussian(
                    mean,
                    projection,
                    log_variances,
                    torch.from_numpy(ppca.loadings),
                    ppca.noise_variance,
                )
        prior: Prior = StandardNormal(n_codes)
        if architecture.n_prior_components:
            prior = GaussianMixture(architecture.n_prior_components, n_codes, generator)
        likelihood = _likelihood(architecture.loss, spread, column_scales)
        return VariationalAutoencoder(encoder, decoder, likelihood, prior, anchor)

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
            seen = rows.first(SUMMARY_ROWS)
            kl = gaussian_kl(*module.posterior(seen), *module.prior.moments())
        self.kl_per_component_ = to_numpy(kl.mean(dim=0)).astype(np.float64)
        self.active_units_ = int((self.kl_per_component_ > ACTIVE_NATS).sum())

    def _draw(
        self, module: VariationalAutoencoder, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        like = next(module.parameters())
        codes = module.prior.sample(
            like.new_empty(n_samples, self._n_features_out), generator
        )
        rows = module.loss.sample(module.decoder(codes), generator)
        if module.anchor is not None:
            chance = torch.rand(n_samples, 1, generator=generator, device=rows.device)
            anchored = module.anchor.sample(n_samples, generator)
            rows = torch.where(chance < DEFENCE, anchored, rows)
        return rows


def _likelihood(name: str, spread: Tensor, column_scales: Tensor) -> Likelihood:
    """Make a likelihood of the given standard deviations.

    The noise of a constant column stays where it starts: there is nothing to learn it
    from, and it would shrink without end.
    """
    if not issubclass(LIKELIHOODS[name], LearnedNoise):
        return LIKELIHOODS[name]()
    floor = torch.where(column_scales > 0, NOISE_FLOOR * column_scales, torch.inf)
    return LIKELIHOODS[name](spread, floor)
