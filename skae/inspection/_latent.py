"""A map of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._effects import decoded
from ._pictures import as_pandas, holds_numbers, linear_start, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection, PathCollection
    from matplotlib.figure import Figure, SubFigure

MOST_CLASSES = 18  # that have a colour of their own
MOST_ELLIPSES = 300
N_DEVIATIONS = 2  # half axes of an ellipse
OTHER = "(others)"
MISSING = "(missing)"


class LatentDisplay:
    """A map of codes: two components of the code, coloured by classes or numbers.

    It is best made by :meth:`from_estimator`.

    Parameters
    ----------
    codes : array-like of shape (n_samples, 2)
        The components of the map.
    component_names : sequence of two str, default=("component 0", "component 1")
        Names of the axes.
    y : array-like of shape (n_samples,), default=None
        Numbers or classes that colour the rows.
    pca_codes : array-like of shape (n_samples, 2), default=None
        Codes of PCA, for a second map.
    deviations : array-like of shape (n_samples, 2), default=None
        Standard deviations of the codes, for ellipses.
    walk_codes : array-like of shape (n_steps, 2), default=None
        A path through the map.
    walk : DataFrame of shape (n_steps, n_features), default=None
        The rows that it decodes to.
    estimator_name : str, default=None
        Title of the map.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the map.
    axes_ : list of matplotlib Axes
        Of the map, and of PCA's if it is there.
    figure_ : matplotlib Figure
    points_ : list of matplotlib PathCollection
        For numbers the rows of each map, for classes those of each class in each map.
    ellipses_ : matplotlib EllipseCollection or None
        Within two standard deviations of the posterior, of up to 300 rows.
    walk : DataFrame or None
        The decoded rows of the path.

    See Also
    --------
    traverse : Decoded rows along one component.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, LatentDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(random_state=0).fit(X)
    >>> display = LatentDisplay.from_estimator(autoencoder, X, y, pca=True)
    >>> [ax.get_title() for ax in display.axes_]
    ['AutoencoderTransformer', 'PCA']
    """

    ax_: Axes
    axes_: list[Axes]
    figure_: Figure | SubFigure
    points_: list[PathCollection]
    ellipses_: EllipseCollection | None

    def __init__(
        self,
        codes: Any,
        component_names: Sequence[str] = ("component 0", "component 1"),
        y: Any = None,
        pca_codes: Any = None,
        deviations: Any = None,
        walk_codes: Any = None,
        walk: pd.DataFrame | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.codes = codes
        self.component_names = component_names
        self.y = y
        self.pca_codes = pca_codes
        self.deviations = deviations
        self.walk_codes = walk_codes
        self.walk = walk
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: tuple[int, int] = (0, 1),
        pca: bool = False,
        ellipses: bool = False,
        walk: tuple[int, int] | None = None,
        n_steps: int = 9,
        ax: Any = None,
    ) -> Self:
        """Plot the codes of a table.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            A fitted one.
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        y : array-like of shape (n_samples,), default=None
            What colours the rows: text, booleans and whole numbers of up to 18 values
            are classes, with a legend; other numbers get a colour bar.
        components : tuple of two int, default=(0, 1)
            Which components of the code; the first two carry most.
        pca : bool, default=False
            Whether to show PCA of the same table beside the map, fitted to `X`.
        ellipses : bool, default=False
            Whether to show how sure the codes of a VAE are: two standard deviations of
            the posterior.
        walk : tuple of two int, default=None
            Positions of two rows; the straight path from one code to the other is drawn
            and its decoded rows are in `walk`.
        n_steps : int, default=9
            Rows of the walk, both ends included.
        ax : matplotlib Axes or two of them, default=None
            Where to plot, two with `pca`; None makes a new figure.

        Returns
        -------
        display : LatentDisplay
            The display, with its artists as attributes.

        Raises
        ------
        ValueError
            If the code lacks a component, the model a posterior, or `y` has another
            length than `X`.
        """
        check_is_fitted(estimator)
        chosen = list(components)
        names = estimator.get_feature_names_out()
        if len(chosen) != 2 or not all(0 <= c < len(names) for c in chosen):
            raise ValueError(
                f"got components={components!r}, but expected two indices below "
                f"{len(names)}, the n_components of the fit."
            )
        if ellipses and not hasattr(estimator, "posterior"):
            raise ValueError(
                f"got ellipses=True for {type(estimator).__name__}, but expected a "
                "VAETransformer, whose codes have a posterior."
            )
        codes = np.asarray(estimator.transform(X), dtype=np.float64)
        check_consistent_length(codes, y)
        path = None
        if walk is not None:
            path = np.linspace(codes[walk[0]], codes[walk[1]], n_steps)
        display = cls(
            codes[:, chosen],
            [f"component {c}" for c in chosen],
            y,
            _linear_codes(estimator, X)[:, chosen] if pca else None,
            estimator.posterior(X)[1][:, chosen] if ellipses else None,
            None if path is None else path[:, chosen],
            None if path is None else decoded(estimator, path),
            type(estimator).__name__,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Plot the map.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, default=None
            Where to plot, two if PCA is there; None makes a new figure.

        Returns
        -------
        display : LatentDisplay
            This display, with its artists as attributes.
        """
        maps = {self.estimator_name: self.codes}
        if self.pca_codes is not None:
            maps["PCA"] = self.pca_codes
        self.axes_ = _axes_of(ax, len(maps))
        self.points_ = []
        for where, (title, codes) in zip(self.axes_, maps.items(), strict=True):
            where.set(title=title or "")
            where.set_xlabel(self.component_names[0])
            where.set_ylabel(self.component_names[1])
            self._scatter(where, np.asarray(codes))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self._explain_colours()
        self.ellipses_ = None if self.deviations is None else self._draw_ellipses()
        if self.walk_codes is not None:
            self._draw_walk()
        return self

    def _scatter(self, ax: Axes, codes: np.ndarray) -> None:
        style: dict[str, Any] = {"s": 16, "alpha": 0.8, "edgecolors": "grey", "lw": 0.4}
        if self.y is None:
            self.points_.append(ax.scatter(*codes.T, **style))
            return
        colours = _column(self.y)
        if not _are_classes(colours):
            numbers = colours.to_numpy(np.float64, na_value=np.nan)
            style |= {"c": numbers, "plotnonfinite": True}
            points = ax.scatter(*codes.T, **style)
            points.set_cmap(points.get_cmap().with_extremes(bad="grey"))
            self.points_.append(points)
            return
        labels, names = _classes(colours)
        legend = zip(names, shortened(names), _palette(names), strict=True)
        for name, label, colour in legend:
            style |= {"color": colour, "label": label}
            self.points_.append(ax.scatter(*codes[labels == name].T, **style))

    def _draw_walk(self) -> None:
        import matplotlib.pyplot as plt

        colour = plt.rcParams["text.color"]
        style: dict[str, Any] = {"color": colour, "marker": "o", "mfc": "none"}
        self.ax_.plot(*np.transpose(self.walk_codes), **style, lw=1.5)

    def _explain_colours(self) -> None:
        """Add a legend of classes, or a bar of numbers, beside the last map."""
        if self.y is None:
            return
        colours, last = _column(self.y), self.axes_[-1]
        (name,) = shortened([""] if colours.name is None else [colours.name])
        if _are_classes(colours):
            last.legend(
                title=name or None,
                loc="center left",
                bbox_to_anchor=(1.02, 0.5),
                fontsize="small",
                markerscale=1.5,
            )
        else:
            self.figure_.colorbar(self.points_[-1], ax=last, label=name)

    def _draw_ellipses(self) -> EllipseCollection:
        from matplotlib.collections import EllipseCollection

        step = -(-len(self.codes) // MOST_ELLIPSES)
        half = N_DEVIATIONS * np.asarray(self.deviations)[::step]
        centres = np.asarray(self.codes)[::step]
        ellipses = EllipseCollection(
            2 * half[:, 0],
            2 * half[:, 1],
            np.zeros(len(half)),
            units="xy",
            offsets=centres,
            offset_transform=self.ax_.transData,
            facecolors="none",
            edgecolors="grey",
            alpha=0.4,
            linewidths=0.6,
        )
        self.ax_.add_collection(ellipses)
        self.ax_.update_datalim(np.concatenate([centres - half, centres + half]))
        self.ax_.autoscale_view()
        return ellipses


def _linear_codes(estimator: Any, X: Any) -> np.ndarray:
    """Return the codes of PCA of the same columns and levels, with as many components.

    It is where the estimator would start, for holes and levels as well.
    """
    start = linear_start(estimator).set_params(n_components=estimator.n_components_)
    start.set_output(transform="default")
    return np.asarray(start.fit_transform(X), dtype=np.float64)


def _axes_of(ax: Any, n_maps: int) -> list[Axes]:
    """Return axes for one map or two."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(
            1, n_maps, figsize=(1.5 + 5 * n_maps, 5), layout="constrained"
        )
    axes = list(np.ravel(ax))
    if len(axes) != n_maps:
        raise ValueError(
            f"got ax with {len(axes)} axes, but expected {n_maps}: one for each map."
        )
    return axes


def _column(y: Any) -> pd.Series:
    """Return what colours the rows as one column."""
    if isinstance(y, pd.Series):
        return y
    name = getattr(y, "name", None)
    array = np.asarray(y)
    if array.ndim > 1 and array.size == len(array):
        return as_pandas(y).iloc[:, 0]
    return pd.Series(array, name=name).infer_objects()


def _are_classes(column: pd.Series) -> bool:
    if not holds_numbers(column):
        return True
    values = column.dropna().unique()
    return len(values) <= MOST_CLASSES and not np.any(np.mod(values.astype(float), 1))


def _classes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the class of each row as text, and all classes in their order."""
    values = column.dropna().unique()
    try:
        values = sorted(values)
    except TypeError:
        values = sorted(values, key=str)
    counts = column.value_counts()
    named = [v for v in values if v in counts.index[:MOST_CLASSES]]
    texts = {v: f"{v:g}" if isinstance(v, float) else str(v) for v in named}
    labels = np.array([texts.get(v, OTHER) for v in column], dtype=object)
    labels[column.isna().to_numpy()] = MISSING
    names = [texts[v] for v in named]
    return labels, names + [n for n in (OTHER, MISSING) if n in labels]


def _palette(names: Sequence[str]) -> list[Any]:
    """Return a colour per class; grey is for the others where there are many."""
    import matplotlib.pyplot as plt

    own = [name for name in names if name not in (OTHER, MISSING)]
    palette: Any = plt.colormaps["tab10" if len(own) <= 10 else "tab20"]
    colours = palette.colors
    if len(own) > 10:
        colours = [colour for colour in colours if len(set(colour)) > 1]
    of_own = dict(zip(own, colours, strict=False))
    of_others = {OTHER: "silver", MISSING: plt.rcParams["text.color"]}
    return [of_own.get(name, of_others.get(name)) for name in names]
