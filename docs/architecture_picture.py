"""The picture of the package's parts, drawn from its source."""

from __future__ import annotations

import ast
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import skae

ROOT = Path(skae.__file__).parent
# Place (centre) and width of each part, from the top down.
PLACES = {
    "inspection": (3.6, 4.0, 3.0),
    "export": (8.5, 4.0, 3.0),
    "estimators": (3.6, 3.0, 4.4),
    "model": (8.0, 2.0, 2.4),
    "training": (1.6, 1.0, 3.0),
    "table": (5.0, 1.0, 3.0),
    "network": (8.4, 1.0, 3.2),
    "shared": (5.0, 0.0, 10.0),
}
# Where an arrow begins and ends that would pass through a box on the straight way.
LANES = {
    ("export", "estimators"): (7.4, 5.4),
    ("export", "table"): (7.9, 5.9),
    ("export", "network"): (9.6, 9.6),
    ("estimators", "network"): (5.4, 7.0),
    ("estimators", "model"): (5.6, 7.1),
    ("estimators", "table"): (4.4, 4.6),
    ("estimators", "training"): (2.2, 2.0),
}
SHARED = {"_schema", "_statistics", "_torch", "_state"}
HEIGHT = 0.52


def part_of(path: Path) -> str:
    """Name the part that a file belongs to."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if first in PLACES:
        return first
    return "shared" if first in SHARED else "estimators"


def imported(path: Path) -> set[str]:
    """Name the parts that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            stem = folder.joinpath(*(node.module or "").split("."))
            is_file = stem.with_suffix(".py").exists()
            found.add(part_of(stem.with_suffix(".py") if is_file else stem / "x.py"))
        elif isinstance(node, ast.ImportFrom) and node.module == "skae":
            found.add("estimators")
    return found


def draw_box(ax, part: str, files: list[Path]) -> None:
    x, y, width = PLACES[part]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    box = FancyBboxPatch(
        (x - width / 2, y - HEIGHT / 2),
        width,
        HEIGHT,
        boxstyle="round,pad=0.02",
        facecolor="#e8eef7",
        edgecolor="#35507a",
        zorder=3,
    )
    ax.add_patch(box)
    middle = {"ha": "center", "va": "center", "zorder": 4}
    ax.text(x, y + 0.08, part, weight="bold", fontsize=11, **middle)
    told = f"{len(files)} modules, {lines:,} lines"
    ax.text(x, y - 0.13, told, fontsize=8.5, **middle)


def draw_arrow(ax, above: str, below: str) -> None:
    (x0, y0, _), (x1, y1, _) = PLACES[above], PLACES[below]
    start, end = LANES.get((above, below), (max(x0, x1), max(x0, x1)))
    arrow = FancyArrowPatch(
        (start, y0 - HEIGHT / 2 - 0.03),
        (end, y1 + HEIGHT / 2 + 0.04),
        arrowstyle="-|>",
        mutation_scale=12,
        color="#35507a",
        shrinkA=0,
        shrinkB=0,
    )
    ax.add_patch(arrow)


def write(folder: Path) -> None:
    """Draw the parts, their sizes, and who imports whom."""
    files: dict[str, list[Path]] = {part: [] for part in PLACES}
    arrows = set()
    for path in sorted(ROOT.rglob("*.py")):
        if path.name == "__init__.py" and path.parent == ROOT:
            continue
        files[part_of(path)].append(path)
        arrows |= {(part_of(path), other) for other in imported(path)}
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.add_subplot()
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.35, 4.35))
    ax.axis("off")
    for part in PLACES:
        draw_box(ax, part, files[part])
    for above, below in sorted(arrows):
        if above != below and below != "shared":
            draw_arrow(ax, above, below)
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "architecture.svg")
