"""How wide a code should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, validation_curve

from ._pictures import as_pandas, linear_start, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

WIDEST = 64  # that is tried unless widths are given
LABELS = {"pca": "PCA", "model": "trained"}


class WidthDisplay:
    """Held-out score against the width of the code, with PCA's beside it.

    It is best made by :meth:`from_estimator`, which answers in one call how many
    components a table needs.

    Parameters
    ----------
    n_components : array-like of int of shape (n_widths,)
        Widths of the code, ascending.
    scores : array-like of shape (n_widths, n_folds)
        Held-out scores.
    pca_scores : array-like of shape (n_widths, n_folds), default=None
        The same of PCA.
    score_name : str, default="score"
        What the scores are.
    estimator_name : str, default=None
        Title of the picture.

    Attributes
    ----------
    frame : DataFrame
        For each width the mean score of the estimator and of PCA, their standard
        errors, and that of the difference of the score to the best width.
    chosen : int
        The least width whose mean score is within one standard error of the best [1]_;
        the error is that of the paired differences of the folds.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : dict of str to matplotlib ErrorbarContainer
        Mean scores of "model" and "pca", with their standard errors.
    chosen_line_ : matplotlib Line2D
        At the chosen width.

    References
    ----------
    .. [1] Breiman, L. et al. (1984). Classification and regression trees. Wadsworth.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderTransformer, WidthDisplay
    >>> X = load_wine().data
    >>> autoencoder = AutoencoderTransformer(max_iter=5, random_state=0)
    >>> widths = [1, 2, 4]
    >>> display = WidthDisplay.from_estimator(autoencoder, X, n_components=widths, cv=3)
    >>> display.chosen
    4
    """

    ax_: Axes
    figure_: Figure | SubFigure
    errorbars_: dict[str, ErrorbarContainer]
    chosen_line_: Line2D

    def __init__(
        self,
        n_components: Any,
        scores: Any,
        pca_scores: Any = None,
        score_name: str = "score",
        estimator_name: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.scores = scores
        self.pca_scores = pca_scores
        self.score_name = score_name
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_components: Any = None,
        cv: Any = 5,
        n_jobs: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Score widths of the code on held-out folds of a table, and plot the scores.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            Its parameters, but for `n_components`, are those that are tried; it is
            cloned, and need not be fitted.
        X : array-like of shape (n_samples, n_features)
            The table.
        n_components : array-like of int, default=None
            Widths to try; None tries the powers of two below the number of columns, up
            to 64.
        cv : int or scikit-learn splitter, default=5
            Folds; an int splits rows at random, the same way for all.
        n_jobs : int, default=None
            Fits that run side by side, as in `validation_curve`.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : WidthDisplay
            The display, with its scores and its artists as attributes.
        """
        widths = _widths(n_components, as_pandas(X).shape[1])
        folds = KFold(cv, shuffle=True, random_state=0) if isinstance(cv, int) else cv
        scores, pca_scores = (
            validation_curve(
                tried,
                X,
                None,
                param_name="n_components",
                param_range=widths,
                cv=folds,
                n_jobs=n_jobs,
                error_score="raise",
            )[1]
            for tried in (estimator, linear_start(estimator))
        )
        is_density = hasattr(estimator, "elbo")
        display = cls(
            widths,
            scores,
            pca_scores,
            "held-out log-likelihood (nats)" if is_density else "held-out R²",
            type(estimator).__name__,
        )
        return display.plot(ax=ax)

    @property
    def chosen(self) -> int:
        """The least width that is not worse than the best by a standard error."""
        frame = self.frame
        loss = frame["model"].max() - frame["model"]
        return int(frame.index[loss <= frame["error_to_best"]][0])

    @property
    def frame(self) -> pd.DataFrame:
        """Mean scores and their standard errors, by width."""
        scores = np.asarray(self.scores, dtype=np.float64)
        best = scores[scores.mean(axis=1).argmax()]
        columns = {
            "model": scores.mean(axis=1),
            "model_error": _standard_errors(scores),
            "error_to_best": _standard_errors(scores - best),
        }
        if self.pca_scores is not None:
            pca = np.asarray(self.pca_scores, dtype=np.float64)
            columns |= {"pca": pca.mean(axis=1), "pca_error": _standard_errors(pca)}
        index = pd.Index(self.n_components, name="n_components")
        return pd.DataFrame(columns, index=index)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Plot the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : WidthDisplay
            This display, with its artists as attributes.
        """
        ax = make_axes(ax)
        frame = self.frame
        self.errorbars_ = {}
        styles: dict[str, dict[str, Any]] = {
            "pca": {"color": "grey", "ls": "--"},
            "model": {},
        }
        for name, style in styles.items():
            if name in frame:
                self.errorbars_[name] = ax.errorbar(
                    frame.index,
                    frame[name],
                    frame[f"{name}_error"],
                    capsize=3,
                    marker="o",
                    label=LABELS[name],
                    **style,
                )
        self.chosen_line_ = ax.axvline(
            self.chosen, color="grey", ls=":", label=f"chosen: {self.chosen}"
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(frame.index, [str(width) for width in frame.index])
        ax.minorticks_off()
        ax.set(xlabel="n_components", ylabel=self.score_name)
        ax.set_title(self.estimator_name or "")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _widths(n_components: Any, n_columns: int) -> list[int]:
    """Return the widths to try, ascending."""
    if n_components is None:
        most = min(WIDEST, max(n_columns - 1, 1))
        return [2**k for k in range(most.bit_length()) if 2**k <= most]
    widths = np.unique(n_components)
    if widths.dtype.kind not in "iu" or not len(widths) or widths[0] < 1:
        raise ValueError(
            f"got n_components={n_components!r}, but expected widths to try: integers "
            "of at least 1."
        )
    return [int(width) for width in widths]


def _standard_errors(scores: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean of each row."""
    n_folds = scores.shape[1]
    return np.asarray(scores.std(axis=1, ddof=1) / np.sqrt(n_folds))
