"""A picture of what each component of a code carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._effects import component_effects
from ._pictures import check_columns, make_axes, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

LABEL = "effect, in deviations of the column"


class ComponentsDisplay:
    """What each component of a code carries: a heat map, or bars for one component.

    It is best made by :meth:`from_estimator`.

    Parameters
    ----------
    effects : DataFrame of shape (n_components, n_columns)
        What one standard deviation of each component does to each column, in standard
        deviations of the column.
    shares : array-like of shape (n_components,), default=None
        Share of the table's variance that each component carries.
    n_columns : int, default=20
        Columns to show, those of the largest effects; None is all.
    estimator_name : str, default=None
        Title of the picture.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage or None
        The heat map, with a row per column of the table.
    bars_ : matplotlib BarContainer or None
        The bars of a single component.
    colorbar_ : matplotlib Colorbar or None

    See Also
    --------
    component_effects : The effects in the units of the table.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderTransformer, ComponentsDisplay
    >>> X = load_wine(as_frame=True).data
    >>> autoencoder = AutoencoderTransformer(n_components=3, max_iter=10).fit(X)
    >>> display = ComponentsDisplay.from_estimator(autoencoder, X)
    >>> display.image_.get_array().shape
    (13, 3)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    image_: AxesImage | None
    bars_: BarContainer | None
    colorbar_: Colorbar | None

    def __init__(
        self,
        effects: pd.DataFrame,
        shares: Any = None,
        n_columns: int | None = 20,
        estimator_name: str | None = None,
    ) -> None:
        self.effects = effects
        self.shares = shares
        self.n_columns = n_columns
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_columns: int | None = 20,
        ax: Axes | None = None,
    ) -> Self:
        """Plot what the components of a fitted estimator carry.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            A fitted one.
        X : array-like of shape (n_samples, n_features)
            The table that effects are averaged over, with the columns of the fit.
        n_columns : int, default=20
            Columns to show, those of the largest effects; None is all.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : ComponentsDisplay
            The display, with its artists as attributes.
        """
        check_is_fitted(estimator)
        display = cls(
            component_effects(estimator, X, standardize=True),
            estimator.explained_variance_ratio_,
            n_columns,
            type(estimator).__name__,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Plot the effects.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : ComponentsDisplay
            This display, with its artists as attributes.
        """
        n_columns = check_columns(self.n_columns, self.effects.shape[1])
        largest = self.effects.abs().max().sort_values(ascending=False, kind="stable")
        shown = self.effects[largest.index[:n_columns]].T
        size = 4.0 + 0.7 * shown.shape[1], 1.5 + 0.25 * n_columns
        ax = make_axes(ax, size)
        self.image_ = self.bars_ = self.colorbar_ = None
        if shown.shape[1] == 1:
            self._plot_bars(ax, shown.iloc[:, 0].to_numpy())
        else:
            self._plot_heat_map(ax, shown.to_numpy())
        ax.set_yticks(range(n_columns), shortened(shown.index))
        ax.set_title(self.estimator_name or "")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_bars(self, ax: Axes, effects: np.ndarray) -> None:
        self.bars_ = ax.barh(range(len(effects)), effects)
        ax.axvline(0, color="grey", lw=0.8)
        ax.invert_yaxis()
        carries = ""
        if self.shares is not None:
            carries = f"\n(component 0, {self.shares[0]:.0%} of the variance)"
        ax.set_xlabel(LABEL + carries)

    def _plot_heat_map(self, ax: Axes, effects: np.ndarray) -> None:
        most = np.abs(effects).max() or 1.0
        self.image_ = ax.imshow(
            effects, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto"
        )
        self.colorbar_ = ax.figure.colorbar(self.image_, ax=ax, label=LABEL)
        n_components = effects.shape[1]
        ax.set_xticks(range(n_components), self._component_names(n_components))
        ax.set_xlabel("component and the variance that it carries")

    def _component_names(self, n_components: int) -> list[str]:
        if self.shares is None:
            return [str(k) for k in range(n_components)]
        return [f"{k}\n{share:.0%}" for k, share in enumerate(self.shares)]
