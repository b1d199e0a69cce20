"""A picture of a fit: its losses over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._pictures import make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D


class LossCurveDisplay:
    """The losses of a fit over its epochs, the epoch that was kept, and PCA's level.

    With `warm_start` the curves are those of all fits. It is best made by
    :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_iter,)
        Training loss of each epoch.
    validation_curve : array-like of shape (n_iter,)
        Validation loss by the end of each epoch.
    start_loss : float
        Validation loss of the start: of PCA, probabilistic PCA or a linear denoiser.
    best_iter : int
        Epoch of the weights that were kept; 0 where that is the start.
    estimator_name : str, default=None
        Title of the picture.
    start_name : str, default="start"
        What the start is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The training loss, the validation loss and the level of the start.
    kept_ : matplotlib Line2D
        The validation loss of the weights that were kept, at their epoch; at epoch 0
        that is the start.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, LossCurveDisplay
    >>> X = load_iris().data
    >>> autoencoder = AutoencoderTransformer(max_iter=10, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(autoencoder)
    >>> display.ax_.get_xlabel()
    'epoch'
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]
    kept_: Line2D

    def __init__(
        self,
        loss_curve: Any,
        validation_curve: Any,
        start_loss: float,
        best_iter: int,
        estimator_name: str | None = None,
        start_name: str = "start",
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_curve = validation_curve
        self.start_loss = start_loss
        self.best_iter = best_iter
        self.estimator_name = estimator_name
        self.start_name = start_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Plot the curves of a fitted estimator.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            A fitted one.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : LossCurveDisplay
            The display, with its artists as attributes.
        """
        check_is_fitted(estimator)
        display = cls(
            estimator.loss_curve_,
            estimator.validation_curve_,
            estimator.start_loss_,
            estimator.best_iter_,
            type(estimator).__name__,
            _name_of_start(estimator),
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : LossCurveDisplay
            This display, with its artists as attributes.
        """
        ax = make_axes(ax)
        epochs = np.arange(1, len(self.loss_curve) + 1)
        (training,) = ax.plot(epochs, self.loss_curve, alpha=0.5, label="training")
        (validation,) = ax.plot(epochs, self.validation_curve, label="validation")
        level: dict[str, Any] = {"color": "grey", "ls": "--", "label": self.start_name}
        start = ax.axhline(self.start_loss, **level)
        losses = [self.start_loss, *self.validation_curve]
        (self.kept_,) = ax.plot(
            [self.best_iter],
            [losses[self.best_iter]],
            "o",
            color=validation.get_color(),
            clip_on=False,
            label=f"kept: epoch {self.best_iter}" if self.best_iter else "kept: start",
        )
        ax.set_xlim(right=1.02 * max(len(epochs), 1))
        ax.locator_params(axis="x", integer=True)
        ax.set(xlabel="epoch", ylabel="loss", title=self.estimator_name)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_ = [training, validation, start]
        return self


def _name_of_start(estimator: Any) -> str:
    """Say what the weights before the first step are."""
    if not estimator.linear_path:
        return "start: untrained networks"
    if hasattr(estimator, "elbo"):
        return "start: probabilistic PCA"
    asked = estimator.noise != "auto" and estimator.noise > 0
    return f"start: {'linear denoiser' if asked or estimator.masking else 'PCA'}"
