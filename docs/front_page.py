"""The table of the front page: penguins, their holes filled by a fit at build time."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from palmerpenguins import load_penguins

from skae import VAETransformer

COLUMNS = ["species", "island", "bill_length_mm", "body_mass_g", "sex"]
TITLES = ["species", "island", "bill (mm)", "mass (g)", "sex"]
FORMATS = {"bill_length_mm": "{:.1f}", "body_mass_g": "{:.0f}"}
N_ROWS = 7


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """Write cells as text; missing ones are empty."""

    def written(column: pd.Series) -> pd.Series:
        form = FORMATS.get(column.name, "{}").format
        return column.map(form, na_action="ignore").fillna("").map(escape)

    return table[COLUMNS].apply(written)


def cell(text: str, truth: str, *, was_hole: bool) -> str:
    """Write a cell of the table, with what was there where that is another."""
    if not was_hole:
        return f"<td>{text}</td>"
    differs = text not in ("", truth)
    aside = f' <span class="was">({truth})</span>' if differs else ""
    return f'<td class="hole">{text}{aside}</td>'


def as_html(shown: pd.DataFrame, truth: pd.DataFrame, holes: pd.DataFrame) -> str:
    """Write a table, the cells that were holes marked."""
    head = "".join(f"<th>{escape(title)}</th>" for title in TITLES)
    rows = (
        "".join(
            cell(shown.loc[row, c], truth.loc[row, c], was_hole=holes.loc[row, c])
            for c in COLUMNS
        )
        for row in shown.index
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<table class="table skae-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def write(folder: Path) -> None:
    """Fill a fifth of the cells of a table, and write some rows before and after."""
    birds = load_penguins().drop(columns="year").dropna().reset_index(drop=True)
    hidden = np.random.default_rng(4).random(birds.shape) < 0.2
    holed = birds.mask(hidden)
    filled = VAETransformer(n_components=2, random_state=0).fit(holed).impute(holed)
    holes = holed[COLUMNS].isna()
    with_holes = holes.index[holes.sum(axis=1).between(1, 2)]
    rows = with_holes[:: len(with_holes) // N_ROWS][:N_ROWS]
    folder.mkdir(exist_ok=True)
    for name, table in {"holes": holed, "filled": filled}.items():
        text = as_html(texts(table.loc[rows]), texts(birds), holes)
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
