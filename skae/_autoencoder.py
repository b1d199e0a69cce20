"""The autoencoder as a scikit-learn transformer."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._array_api import through_numpy
from ._base import BaseAutoencoder
from ._descent import BRISK, OF_MAPS, SUMMARY_ROWS, FoldModels
from ._piecewise import piecewise
from ._schema import KINDS, Encoded, Kind
from ._validation import PARAMETERS
from .model._denoiser import noise_scales
from .model._reconstruction import ReconstructionDensity
from .network._autoencoders import Autoencoder
from .network._design import Design
from .network._layers import ModuleFactory
from .network._losses import LOSSES, SquaredError
from .network._neighbors import relative_distance
from .network._objectives import Reconstruction
from .table._large import as_large
from .table._summaries import ColumnStatistics
from .training._folds import VERY_FEW_ROWS, Split
from .training._loop import Pace
from .training._rows import Rows

DEFAULT_NOISE = 0.2  # of a standard deviation, falling to none
NOISE_OF_FEW = 0.4  # on small tables of numbers, where more of it regularises
NOISE_OF_MAPS = 2.0  # of the distance of a row to the nearest other
NOISE_ROWS = 1_000  # by which that distance is known


@piecewise("score_samples")
class AutoencoderTransformer(BaseAutoencoder):
    """Dimensionality reduction by an autoencoder that starts at PCA.

    Encoder and decoder are each a straight linear path plus a network,
    ``z = E (x - m) + f(x)`` and ``x̂ = m + D z + g(z)``. E and D are the principal
    components, and f and g start at zero, so that the model is PCA before the first
    step of gradient descent [1]_. The weights that come back are the best on held-out
    rows, and those of PCA unless the gain over it is larger than its standard error.
    Asked to undo `noise` or `masking`, it starts at the best linear denoiser instead.

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
        L2 penalty on the networks' weight matrices, decoupled from the gradient with
        the solver "adam" (AdamW).
    l1_penalty : float, default=0.0
        L1 penalty on the same weights; it draws many of them to zero.
    linear_path : bool, default=True
        Add the networks to PCA, which stays as it is. False gives the plain networks of
        the textbooks, without the guarantee.
    loss : str, default="squared_error"
        What the reconstruction of a number costs, as a mean over the seen cells of a
        row: "squared_error", "absolute_error" or "huber", or, for columns between 0
        and 1, "binary_cross_entropy". Levels always cost the squared error of their
        indicators.
    categorical_features : array-like, "from_dtype" or None, default="from_dtype"
        Which columns hold levels, as in `HistGradientBoostingClassifier`. By default
        the columns of a dataframe of text, categories, enums or booleans, and no
        column of an array. A mask, indices or names say it outright; with None all
        columns must be numbers.
    scaling : {"auto", "standard", "minmax", "quantile"} or None, default="auto"
        How numbers are brought to one scale inside: zero mean and unit variance; the
        range [0, 1]; the scores that their ranks would have in a normal sample, for
        columns with heavy tails, skew or spikes; or not at all. "auto" is "minmax" for
        "binary_cross_entropy" and "standard" otherwise. Outputs come back in the units
        of the table.
    noise : float or "auto", default="auto"
        Standard deviation of the Gaussian noise on the inputs in training, in the units
        that `scaling` brings numbers to: standard deviations by default, shares of the
        range for "minmax", those of the table for None; for levels, in deviations of
        their indicators. A number above zero asks for a denoising autoencoder [2]_,
        which takes noisy rows to clean ones: it starts at the linear map through the
        code that denoises best, not at PCA, and is judged on noisy rows. "auto"
        regularises the search instead: it begins at 0.2 deviations of the column and
        ends at none with the learning rate, and clean rows judge.
    masking : float in [0, 1), default=0.0
        Share of the input cells that are replaced by the column's mean in training, to
        be restored: the start and the judges are then as for a number as `noise`.
    legibility : float, default=0.25
        Price of what is nonlinear in a code: weight, in the loss, of the squared
        distance between the code and the one that the encoder's linear path alone
        gives, that is, of how far the best linear reconstruction from the code moves.
        A model that follows (a regression, neighbours, trees) can then read from the
        code what it reads from that of PCA; the decoder is free. 0 leaves the encoder
        free too, which reconstructs a little more: for compression.
    neighborhood : float, default=0.0
        Weight, in the loss, of keeping neighbours together, for maps of two components:
        3 draws apart what is apart, and reconstructs about as much as without. Of each
        row the six nearest among 256 should be near in code too, by the divergence of
        parametric t-SNE [4]_, in nats. Training then takes 3,000 steps of 256 rows, no
        row is held out, and `legibility` is without effect: a map shows all rows, and
        is not to be like a linear code.
    sparsity : float, default=0.0
        Share of the codes' entries that are exactly zero: those smallest in size over
        the rows of the fit [3]_. A row that is easily told uses fewer components than
        another. With as many components as columns, or more, `sparsity=0.55` has half
        of a fresh code zero for about 0.01 of R² (0.06 where columns hardly tell of
        each other); narrow codes have less to spare, and do best with `legibility=0`.
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        AdamW; stochastic gradient descent with Nesterov momentum; or limited-memory
        BFGS over the whole table, for small tables.
    learning_rate : float or "auto", default="auto"
        Highest rate of the schedule, which rises for 100 steps and falls to zero at the
        end. "auto" is 0.012, 0.05 and 1 for the three solvers; for "adam" less where a
        hidden layer is wider than 256: an eighth at 1,024.
    momentum : float in [0, 1), default=0.9
        Of the solver "sgd".
    batch_size : int or "auto", default="auto"
        Rows per gradient step; "auto" is 128.
    max_iter : int or "auto", default="auto"
        Largest number of epochs. "auto" makes 1,500 gradient steps (1,000 up to 1,500
        rows, 600 up to 400), since an epoch of a small table is a step or two. Where
        these pass less than sixty times over a long table, it goes on while rows held
        out are reconstructed better and better, up to sixty times. 0 keeps the start.
    tol : float, default=0.0
        Decrease of the validation loss from which on it counts as an improvement.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without an improvement after which training winds down. "auto" makes 300
        gradient steps, and fewer on tables of up to 1,500 rows.
    early_stopping : bool, default=True
        Whether to end before `max_iter` when the validation loss has ceased to
        improve. The best weights seen are what comes back in either case.
    validation_fraction : "auto", float in (0, 1) or None, default="auto"
        Share of the distinct rows, up to 5,000, held out to judge the weights, unless
        `fit` gets `X_val`. "auto" is 0.1 on tables of more than 1,500 rows. On smaller
        ones, of which a tenth could not judge, a network trains without a fifth of the
        rows, which judges it, and beside it one on all rows for as long as the first
        says, if at all; up to 400 rows each third judges a network. With the solver
        "lbfgs" or `warm_start` a tenth judges there too. None trains on all rows and
        judges by them: nothing then guards against overfitting.
    encoder, decoder : callable or None, default=None
        A picklable ``(n_inputs, n_outputs) -> torch.nn.Module`` that makes the network
        of one direction, in place of the hidden layers above. For
        "binary_cross_entropy" the decoder returns logits; outputs that all lie in
        [0, 1], as after a sigmoid, are understood as the chances themselves. With
        `linear_path` its output passes a learned gate that starts at zero. Networks
        that train side by side on small tables (`validation_fraction`) have one such
        module each, with the same first weights; these run one after another.
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
    n_components_ : int
        Width of the code.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the table's variance that each component of the code carries, in
        descending order: how far the reconstruction moves when that component is set to
        its mean, as shares of the variance that the whole reconstruction explains. At
        the start it is that of PCA. From up to 5,000 rows.
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
    VAETransformer : With a likelihood of rows and a code that is a distribution.
    sklearn.decomposition.PCA : Where this transformer starts.

    Notes
    -----
    A column of levels becomes one indicator per level, as by `OneHotEncoder`, beside
    numbers that are standardised: it weighs its Gini impurity (at most one, and little
    where one level is nearly all), in the start, in the loss and in the score. PCA of
    that one-hot table is the start. Levels beyond the 30 most frequent of a column, and
    those of fewer than three rows, share an indicator (`min_frequency=3` and
    `max_categories=31` there). A level that `fit` did not see counts as one of these,
    or as missing where there are none, with a warning, and costs in `score_samples`
    what a level of one row would. A row given several times counts as one of that
    weight: copies do not judge their twins.

    NaN, None and NA are missing cells. The linear start is then the maximum of the
    likelihood of the seen cells; the encoder gets what the linear model expects in a
    hole, and is told of the hole where its column had some in the fit; the loss and the
    scores count seen cells alone.

    `sample` and `impute` answer from one density: a mixture of Gaussians on the codes,
    whose decoded rows get residuals that are Gaussian given the code, with their
    correlations. What the code cannot hold is therefore still drawn, and filled, by the
    columns that tell of it.

    Rows come back in the container of the fit: an array, or a dataframe of the same
    library with its names, dtypes and levels; `impute` keeps that of its table. So it
    is unless `set_output` asks for another. Codes are arrays until it does.

    Training is in single precision; `transform` and the rest compute in the precision
    of their input. Nothing reads or writes a global random state.

    References
    ----------
    .. [1] Hinton, G. E. and Salakhutdinov, R. R. (2006). Reducing the dimensionality of
       data with neural networks. Science 313, 504-507.
    .. [2] Vincent, P. et al. (2008). Extracting and composing robust features with
       denoising autoencoders. ICML.
    .. [3] Makhzani, A. and Frey, B. (2014). k-sparse autoencoders. ICLR.
    .. [4] van der Maaten, L. (2009). Learning a parametric embedding by preserving
       local structure. AISTATS.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skae import AutoencoderTransformer
    >>> X = load_diabetes(scaled=False).data
    >>> autoencoder = AutoencoderTransformer(n_components=3, random_state=0).fit(X)
    >>> autoencoder.transform(X).shape
    (442, 3)
    >>> autoencoder.inverse_transform(autoencoder.transform(X)).shape
    (442, 10)
    >>> start = AutoencoderTransformer(n_components=3, max_iter=0).fit(X)
    >>> autoencoder.score(X) > start.score(X)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PARAMETERS,
        "loss": [StrOptions(set(LOSSES))],
        "noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "masking": [Interval(Real, 0, 1, closed="left")],
        "legibility": [Interval(Real, 0, None, closed="left")],
        "neighborhood": [Interval(Real, 0, None, closed="left")],
        "sparsity": [Interval(Real, 0, 1, closed="left")],
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
        loss: str = "squared_error",
        categorical_features: Any = "from_dtype",
        scaling: str | None = "auto",
        noise: float | str = "auto",
        masking: float = 0.0,
        legibility: float = 0.25,
        neighborhood: float = 0.0,
        sparsity: float = 0.0,
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
        self.loss = loss
        self.categorical_features = categorical_features
        self.scaling = scaling
        self.noise = noise
        self.masking = masking
        self.legibility = legibility
        self.neighborhood = neighborhood
        self.sparsity = sparsity
        self.solver = solver
        self.learning_rate = learning_rate
        self.momentum = momentum
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

    def score_samples(self, X: Any) -> np.ndarray:
        """Score each row by how well it is reconstructed; higher is more normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the mean squared error over the row's seen cells, in scaled units; 0
            where none is seen.
        """
        check_is_fitted(self)
        return self._of_rows(self._read(X), lambda rows, of: -self._errors(rows, of))

    @through_numpy
    def score(self, X: Any, y: Any = None) -> float:
        """Return the share of the variance that the reconstruction explains (R²).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        y : object, default=None
            Ignored; here for the scikit-learn API.

        Returns
        -------
        score : float
            One less the squared error over the squared deviation from the mean of `X`,
            all seen cells together in scaled units, where a categorical column
            weighs its Gini impurity. At most 1; 0 for a single row that is not
            reconstructed exactly.
        """
        check_is_fitted(self)
        large = as_large(X)
        error, statistics = 0.0, None
        for chunk in [X] if large is None else large.chunks():
            encoded = self._table.encode(self._read(chunk))
            matrix = np.where(encoded.cells_seen, encoded.matrix, np.nan)
            parts = gen_batches(len(encoded), self._model.chunk_rows)
            errors = [self._model.cell_errors(encoded.take(part)) for part in parts]
            error += np.concatenate(errors).sum(dtype=np.float64)
            found = ColumnStatistics.of(matrix, None)
            statistics = found if statistics is None else statistics.merge(found)
        variance = 0.0 if statistics is None else statistics.squared_deviations()
        if variance == 0:
            return float(error == 0)
        return float(1 - error / variance)

    def _errors(self, rows: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Mean squared error over the cells of each row that are not missing."""
        errors = self._model.cell_errors(encoded)
        unseen = self._table.unseen_errors(rows)
        n_seen = errors.shape[1] if encoded.seen is None else encoded.seen.sum(axis=1)
        n_cells = n_seen + np.count_nonzero(unseen, axis=1)
        return (errors.sum(axis=1) + unseen.sum(axis=1)) / np.maximum(n_cells, 1)

    def _kinds(self) -> tuple[Kind, dict[int | str, Kind]]:
        return KINDS[self.loss], {}

    @property
    def _pace(self) -> Pace:  # type: ignore[override]
        return OF_MAPS if self.neighborhood > 0 else BRISK

    @property
    def _corruption(self) -> tuple[float, float]:  # type: ignore[override]
        return 0.0 if self.noise == "auto" else float(self.noise), float(self.masking)

    def _design(self, parts: dict[str, Any]) -> Design:
        return Design(**parts, sparsity=float(self.sparsity))

    def _objective(
        self, module: Autoencoder, rows: Rows, generator: torch.Generator
    ) -> Reconstruction:
        values = rows.cells.values
        deviation, centre = torch.std_mean(values, dim=0, correction=0)
        if self.noise != "auto":
            n_numbers = self._model.design.n_numbers
            noise = noise_scales(float(self.noise), deviation, n_numbers)
        elif self.neighborhood > 0:
            near = relative_distance(rows.spread(NOISE_ROWS)[0].values)
            noise = deviation * NOISE_OF_MAPS * near
        else:
            few = rows.n_members > 1 and len(rows) <= VERY_FEW_ROWS
            numbers = isinstance(module.loss, SquaredError)
            noise = deviation * (NOISE_OF_FEW if few and numbers else DEFAULT_NOISE)
        return Reconstruction(
            module,
            generator,
            noise_scale=noise if self.noise != 0 else None,
            anneal=self.noise == "auto",
            masking=self.masking,
            centre=centre,
            sample=rows.spread(SUMMARY_ROWS),
            legibility=float(self.legibility),
            neighborhood=float(self.neighborhood),
        )

    def _make_density(
        self, encoded: Encoded, split: Split, judged: FoldModels, seed: int
    ) -> ReconstructionDensity:
        some = encoded.take(split.training)
        return ReconstructionDensity.learn(self._model, some, seed)
