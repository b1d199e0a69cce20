"""A picture of drawn rows beside real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ._comparison import compare_tables, paired
from ._pictures import check_columns, holds_numbers, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

N_BINS = 30
MOST_LEVELS = 6  # of a column in a picture
MOST_NAMES = 15  # of columns beside the correlations
LONGEST_TITLE = 15  # characters over a margin
PER_LINE = 4  # margins
COLOURS = {"real": "C0", "drawn": "C1"}


class SampleDisplay:
    """Drawn rows beside real ones: margins, differences of correlations, and the AUC.

    It is best made by :meth:`from_estimator` or :meth:`from_tables`.

    Parameters
    ----------
    real, drawn : DataFrame
        Tables of the same columns.
    comparison : Bunch
        What :func:`compare_tables` says of them.
    n_columns : int, default=12
        Margins to show, those of the largest distance first; None is all.
    estimator_name : str, default=None
        Part of the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        That all are drawn in.
    axes_ : list of matplotlib Axes
        Of the margins.
    correlation_ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    margins_ : dict of column to tuple of two matplotlib artists
        Real and drawn: steps of a number's histogram, bars of the shares of levels.
    image_ : matplotlib AxesImage
        The differences of correlations, drawn less real.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import SampleDisplay, VAETransformer
    >>> X = load_iris(as_frame=True).data
    >>> vae = VAETransformer(max_iter=10, random_state=0).fit(X)
    >>> display = SampleDisplay.from_estimator(vae, X, random_state=0)
    >>> len(display.axes_)
    4
    """

    ax_: Axes
    axes_: list[Axes]
    correlation_ax_: Axes
    figure_: Figure | SubFigure
    margins_: dict[Any, tuple[Any, Any]]
    image_: AxesImage

    def __init__(
        self,
        real: pd.DataFrame,
        drawn: pd.DataFrame,
        comparison: Bunch,
        n_columns: int | None = 12,
        estimator_name: str | None = None,
    ) -> None:
        self.real = real
        self.drawn = drawn
        self.comparison = comparison
        self.n_columns = n_columns
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_samples: int | None = None,
        n_columns: int | None = 12,
        random_state: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw rows from a fitted estimator and plot them beside a table.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            A fitted one.
        X : array-like of shape (n_real, n_features)
            Real rows, best such as `fit` has not seen.
        n_samples : int, default=None
            Rows to draw, with holes like those of the fit; None draws as many as `X`
            has.
        n_columns : int, default=12
            Margins to show, those of the largest distance first; None is all.
        random_state : int, default=0
            Seed of the draw and of the comparison.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : SampleDisplay
            The display, with its artists as attributes.
        """
        check_is_fitted(estimator)
        n_samples = len(X) if n_samples is None else n_samples
        drawn = estimator.sample(n_samples, random_state=random_state, missing=True)
        return cls._of(X, drawn, n_columns, random_state, ax, type(estimator).__name__)

    @classmethod
    def from_tables(
        cls,
        real: Any,
        drawn: Any,
        *,
        n_columns: int | None = 12,
        random_state: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Plot drawn rows beside real ones, whoever drew them.

        Parameters
        ----------
        real : array-like or dataframe of shape (n_real, n_features)
            Rows that the model should resemble, best such as `fit` has not seen.
        drawn : array-like or dataframe of shape (n_drawn, n_features)
            Rows to judge.
        n_columns : int, default=12
            Margins to show, those of the largest distance first; None is all.
        random_state : int, default=0
            Seed of the comparison.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : SampleDisplay
            The display, with its artists as attributes.
        """
        return cls._of(real, drawn, n_columns, random_state, ax)

    @classmethod
    def _of(
        cls,
        real: Any,
        drawn: Any,
        n_columns: int | None,
        seed: int,
        ax: Axes | None,
        name: str | None = None,
    ) -> Self:
        comparison = compare_tables(real, drawn, random_state=seed)
        return cls(*paired(real, drawn), comparison, n_columns, name).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Plot the margins and the differences of correlations.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Whose place in a figure is filled; None makes a new figure.

        Returns
        -------
        display : SampleDisplay
            This display, with its artists as attributes.
        """
        import matplotlib.pyplot as plt

        distances = self.comparison.columns["distance"].fillna(0.0).astype(float)
        by_distance = distances.sort_values(ascending=False, kind="stable").index
        shown = by_distance[: check_columns(self.n_columns, len(by_distance))]
        n_lines = -(-len(shown) // PER_LINE)
        if ax is None:
            height = max(2.4 * n_lines, 4.5) + 0.8
            _, ax = plt.subplots(figsize=(17, height), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        ax.set_axis_off()
        place: Any = ax.get_subplotspec()
        margins, correlations = place.subgridspec(1, 2, width_ratios=(3, 2))
        heights = [0.1] + [1] * max(n_lines, 2)
        grid = margins.subgridspec(len(heights), PER_LINE, height_ratios=heights)
        self.axes_ = [
            self.figure_.add_subplot(grid[k // PER_LINE + 1, k % PER_LINE])
            for k in range(len(shown))
        ]
        self.margins_ = {
            name: self._plot_margin(where, name)
            for where, name in zip(self.axes_, shown, strict=True)
        }
        above = self.figure_.add_subplot(grid[0, :])
        above.set_axis_off()
        handles = self.margins_[shown[0]]
        above.legend(handles, COLOURS, ncols=2, loc="center", frameon=False)
        self.correlation_ax_ = self.figure_.add_subplot(correlations)
        self.image_ = self._plot_correlations(self.correlation_ax_)
        self._tell_auc()
        return self

    def _tell_auc(self) -> None:
        auc = self.comparison.auc
        text = f"told apart with an AUC of {auc.mean():.2f} ± {auc.std():.2f}"
        ax, name = self.correlation_ax_, self.estimator_name
        ax.set_title(text if name is None else f"{name}\n{text}")

    def _plot_margin(self, ax: Axes, name: Any) -> tuple[Any, Any]:
        distance = self.comparison.columns.loc[name, "distance"]
        (title,) = shortened([name], LONGEST_TITLE)
        ax.set_title(f"{title}\n{distance:.2f} apart", fontsize="small")
        ax.tick_params(labelsize="small")
        ax.set_yticks([])
        real, drawn = self.real[name].dropna(), self.drawn[name].dropna()
        if holds_numbers(real):
            return _plot_numbers(ax, real, drawn)
        return _plot_levels(ax, real, drawn)

    def _plot_correlations(self, ax: Axes) -> AxesImage:
        difference = self.comparison.correlations
        image = ax.imshow(difference.to_numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
        ax.figure.colorbar(
            image, ax=ax, label="correlation, drawn less real", shrink=0.8
        )
        if len(difference) <= MOST_NAMES:
            names, places = shortened(difference), range(len(difference))
            rotated: dict[str, Any] = {"rotation": 45, "ha": "right"}
            rotated |= {"rotation_mode": "anchor", "fontsize": "small"}
            ax.set_xticks(places, names, **rotated)
            ax.set_yticks(places, names, fontsize="small")
        else:
            ax.set(xlabel="column", ylabel="column")
        return image


def _plot_numbers(ax: Axes, real: pd.Series, drawn: pd.Series) -> tuple[Any, Any]:
    """Draw shares of the cells within bins that both share."""
    both = np.concatenate([real, drawn]).astype(float)
    edges = np.histogram_bin_edges(both, N_BINS)
    artists = []
    for column, (label, colour) in zip((real, drawn), COLOURS.items(), strict=True):
        counts, _ = np.histogram(column.astype(float), edges)
        shares = counts / max(len(column), 1)
        artists.append(
            ax.stairs(shares, edges, fill=label == "real", color=colour, label=label)
        )
        artists[-1].set(alpha=0.5 if label == "real" else 1.0, lw=1.3)
    ax.locator_params(axis="x", nbins=3)
    return artists[0], artists[1]


def _plot_levels(ax: Axes, real: pd.Series, drawn: pd.Series) -> tuple[Any, Any]:
    """Draw the shares of the most frequent levels side by side."""
    levels = real.value_counts().index[:MOST_LEVELS]
    artists = []
    columns = zip((real, drawn), COLOURS.items(), (-0.2, 0.2), strict=True)
    for column, (label, colour), shift in columns:
        shares = column.value_counts(normalize=True).reindex(levels, fill_value=0.0)
        places = np.arange(len(levels)) + shift
        bars = ax.barh(places, shares, height=0.4, color=colour, label=label)
        artists.append(bars)
    ax.set_yticks(range(len(levels)), shortened(levels, 10))
    ax.invert_yaxis()
    ax.locator_params(axis="x", nbins=3)
    return artists[0], artists[1]
