"""Pictures of odd rows: which of their cells make them odd."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from ._pictures import (
    as_pandas,
    check_columns,
    column_names_of,
    holds_numbers,
    make_axes,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

LONGEST_VALUE = 14  # characters of a level that a label has room for
MOST_NATS = 20  # below the usual cell, beyond which a cell is as dark as can be
LINEAR = 2  # half widths of the band from the median, beyond which distances are logs


class ReconstructionErrorDisplay:
    """Why rows are odd: the cells of one row, or a heat map of the cells of many.

    The cells come by `score_cells`: how likely each is, given the others of its row.
    It is best made by :meth:`from_estimator`.

    Parameters
    ----------
    scores : DataFrame of shape (n_rows, n_features)
        Log-density of each cell given the others, in nats.
    rows : DataFrame of shape (n_rows, n_features)
        The cells.
    expected : DataFrame of shape (n_rows, n_features)
        What the others let expect.
    band : DataFrame of shape (3, n_features)
        A low quantile, the median and a high quantile of each column of numbers, NaN
        for levels.
    n_columns : int, default=15
        Columns to show, those of the least likely cells; None is all.
    estimator_name : str, default=None
        Part of the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage or None
        The heat map of many rows, the first on top; missing cells are grey.
    colorbar_ : matplotlib Colorbar or None
    cells_, expected_ : matplotlib Line2D or None
        For one row, how far each cell, and what is expected of it, is from the median
        of its column, in half widths of the band; the least likely cell on top.
    band_ : matplotlib BarContainer or None
        The band of each column.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, ReconstructionErrorDisplay
    >>> X = load_iris(as_frame=True).data
    >>> X.loc[7, "petal width (cm)"] = 2.3
    >>> autoencoder = AutoencoderTransformer(random_state=0).fit(X.drop(index=7))
    >>> display = ReconstructionErrorDisplay.from_estimator(autoencoder, X, rows=7)
    >>> display.ax_.get_yticklabels()[0].get_text()
    'petal width (cm) = 2.3'
    """

    ax_: Axes
    figure_: Figure | SubFigure
    image_: AxesImage | None
    colorbar_: Colorbar | None
    cells_: Line2D | None
    expected_: Line2D | None
    band_: BarContainer | None

    def __init__(
        self,
        scores: pd.DataFrame,
        rows: pd.DataFrame,
        expected: pd.DataFrame,
        band: pd.DataFrame,
        n_columns: int | None = 15,
        estimator_name: str | None = None,
    ) -> None:
        self.scores = scores
        self.rows = rows
        self.expected = expected
        self.band = band
        self.n_columns = n_columns
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        rows: Any = None,
        n_rows: int = 20,
        n_columns: int | None = 15,
        quantiles: tuple[float, float] = (0.05, 0.95),
        n_importance_samples: int = 100,
        ax: Axes | None = None,
    ) -> Self:
        """Plot the cells of odd rows of a table.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VAETransformer
            A fitted one.
        X : array-like of shape (n_samples, n_features)
            The table, which the band of each column is taken from.
        rows : int or array-like of int, default=None
            Positions of rows: one for its cells, several for a heat map. None takes the
            `n_rows` least likely by `score_samples`, the least likely first.
        n_rows : int, default=20
            Number of rows if `rows` does not name them.
        n_columns : int, default=15
            Columns to show, those of the least likely cells; None is all.
        quantiles : tuple of two float, default=(0.05, 0.95)
            Ends of the band.
        n_importance_samples : int, default=100
            Codes per row, as in `score_cells`, whose time with what is expected it is.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The display, with its artists as attributes.
        """
        check_is_fitted(estimator)
        if rows is None:
            rows = np.argsort(estimator.score_samples(X), kind="stable")[:n_rows]
        positions = [rows] if isinstance(rows, Integral) else list(rows)
        names, table = column_names_of(estimator), as_pandas(X)
        table = table.set_axis(names, axis=1)
        scores, expected = estimator.score_cells(
            _safe_indexing(X, positions),
            return_expected=True,
            n_importance_samples=n_importance_samples,
        )
        chosen = table.iloc[positions]
        display = cls(
            as_pandas(scores).set_axis(names, axis=1).set_axis(chosen.index),
            chosen,
            as_pandas(expected).set_axis(names, axis=1).set_axis(chosen.index),
            _band(table, quantiles),
            n_columns,
            type(estimator).__name__,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Plot the cells.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        display : ReconstructionErrorDisplay
            This display, with its artists as attributes.
        """
        worst = self.scores.min().sort_values(kind="stable").index
        shown = worst[: check_columns(self.n_columns, len(worst))]
        self.image_ = self.colorbar_ = None
        self.cells_ = self.expected_ = self.band_ = None
        draw = self._plot_row if len(self.scores) == 1 else self._plot_rows
        self.ax_ = draw(shown, ax)
        self.figure_ = self.ax_.figure
        return self

    def _title(self, text: str) -> str:
        name = self.estimator_name
        return text if name is None else f"{text}, by {name}"

    # ------------------------------------------------------------------ many rows

    def _plot_rows(self, shown: pd.Index, ax: Axes | None) -> Axes:
        import matplotlib.pyplot as plt

        cells = self.scores[shown].to_numpy(np.float64)
        size = 3.5 + 0.35 * cells.shape[1], 2.5 + 0.22 * len(cells)
        ax = make_axes(ax, size)
        usual = np.nanmedian(cells)
        self.image_ = ax.imshow(
            cells,
            cmap=plt.colormaps["magma"].with_extremes(bad="grey"),
            vmin=max(np.nanmin(cells), usual - MOST_NATS),
            vmax=usual,
            aspect="auto",
        )
        self.colorbar_ = ax.figure.colorbar(
            self.image_, ax=ax, extend="both", label="log-density of the cell (nats)"
        )
        rotated: dict[str, Any] = {"rotation": 45, "ha": "right"}
        ax.set_xticks(
            range(len(shown)), shortened(shown), **rotated, rotation_mode="anchor"
        )
        ax.set_yticks(range(len(cells)), shortened(self.scores.index))
        ax.set(ylabel="row", title=self._title("cells given the others"))
        return ax

    # ---------------------------------------------------------------- a single row

    def _plot_row(self, shown: pd.Index, ax: Axes | None) -> Axes:
        ax = make_axes(ax, (9.0, 1.8 + 0.32 * len(shown)))
        scores, cells, expected = (
            frame[shown].iloc[0] for frame in (self.scores, self.rows, self.expected)
        )
        places = np.arange(len(shown))
        band = self.band[shown].to_numpy(np.float64)
        ends, of_cells, of_expected = _in_band(band, cells, expected)
        widths = np.nan_to_num(ends[1] - ends[0])
        self.band_ = ax.barh(
            places,
            widths,
            left=np.nan_to_num(ends[0]),
            color="grey",
            alpha=0.35,
            label="band of the table",
        )
        style: dict[str, Any] = {"ls": "none", "ms": 8}
        (self.expected_,) = ax.plot(
            of_expected, places, "o", mfc="none", color="C0", label="expected", **style
        )
        (self.cells_,) = ax.plot(
            of_cells, places, "o", color="C3", label="cell", **{**style, "ms": 5}
        )
        most = np.nanmax(np.abs([*of_cells, *of_expected, LINEAR]), initial=LINEAR)
        # The middle keeps its share of the axis however far a cell is.
        middle = max(1.0, np.log10(most / LINEAR) / 2)
        ax.set_xscale("symlog", linthresh=LINEAR, linscale=middle)
        ax.set_xlim(-1.4 * most, 1.4 * most)
        _mark_band(ax, most)
        ax.set_yticks(places, _with_values(shown, cells))
        ax.invert_yaxis()
        _label_right(ax, [_reason(*c) for c in zip(scores, expected, strict=True)])
        row = shortened(self.scores.index)[0]
        ax.set_xlabel("distance from the median, in half widths of the band")
        ax.set_title(self._title(f"row {row}"), pad=28)
        ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        return ax


def _band(table: pd.DataFrame, quantiles: tuple[float, float]) -> pd.DataFrame:
    """Return quantiles and the median of each column of numbers, NaN for levels."""
    low, high = quantiles
    if not 0 <= low < 0.5 < high <= 1:
        raise ValueError(
            f"got quantiles={quantiles!r}, but expected one from 0 to below 0.5 and one"
            " above it, up to 1."
        )
    wanted = [low, 0.5, high]
    columns = {}
    for name, column in table.items():
        is_empty = not holds_numbers(column) or column.isna().all()
        numbers = [] if is_empty else column.dropna().to_numpy(np.float64)
        columns[name] = [np.nan] * 3 if is_empty else np.quantile(numbers, wanted)
    return pd.DataFrame(columns, index=pd.Index(wanted, name="quantile"))


def _in_band(
    band: np.ndarray, *rows: pd.Series
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ends of the band and rows as distances from the median.

    In half widths of the band; NaN where a cell is missing or a level.
    """
    low, median, high = band
    half = (high - low) / 2
    half = np.where(half > 0, half, 1.0)
    numbers = [pd.to_numeric(row, errors="coerce").to_numpy(np.float64) for row in rows]
    ends = np.stack([low - median, high - median]) / half
    of_cells, of_expected = ((number - median) / half for number in numbers)
    return ends, of_cells, of_expected


def _mark_band(ax: Axes, most: float) -> None:
    """Mark the median, the ends of the band, and a power of ten where cells are far."""
    power = int(np.log10(1.4 * most))
    far = {10.0**power: f"10^{{{power}}}" if power > 3 else f"{10**power}"}
    marks = {1.0: "1"} | (far if power else {})
    ticks = {-at: f"$-{text}$" for at, text in marks.items()}
    ticks |= {0.0: "$0$"} | {at: f"${text}$" for at, text in marks.items()}
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()


def _with_values(names: pd.Index, cells: pd.Series) -> list[str]:
    pairs = zip(shortened(names), map(_text, cells), strict=True)
    return [f"{name} = {cell}" for name, cell in pairs]


def _reason(score: float, expected: Any) -> str:
    told = "missing" if np.isnan(score) else f"{np.round(score, 1) + 0.0:.1f} nats"
    return f"{told} (expected {_text(expected)})"


def _text(value: Any) -> str:
    if pd.isna(value):
        return "missing"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return shortened([value], LONGEST_VALUE)[0]


def _label_right(ax: Axes, labels: list[str]) -> None:
    """Write a label at the end of each row."""
    right = ax.twinx()
    right.set_ylim(ax.get_ylim())
    right.set_yticks(range(len(labels)), labels)
    right.tick_params(length=0)
