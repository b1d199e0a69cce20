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
ROWS = [0, 20, 160, 200, 280, 320]


def as_html(table: pd.DataFrame, holes: pd.DataFrame) -> str:
    """Write a table, the cells that were holes marked."""
    head = "".join(f"<th>{escape(title)}</th>" for title in TITLES)
    body = ""
    for row in table.index:
        cells = ""
        for column in COLUMNS:
            value, hole = table.loc[row, column], holes.loc[row, column]
            text = "" if pd.isna(value) else escape(f"{value}")
            text = text.removesuffix(".0") if column == "body_mass_g" else text
            cells += f'<td class="hole">{text}</td>' if hole else f"<td>{text}</td>"
        body += f"<tr>{cells}</tr>"
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
    holes = holed.loc[ROWS].isna()
    folder.mkdir(exist_ok=True)
    for name, table in {"holes": holed, "filled": filled, "truth": birds}.items():
        text = as_html(table.loc[ROWS], holes)
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
