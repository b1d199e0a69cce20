"""Parts of the repository's own texts that the site shows, with links that it has."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
LINKS = {
    "[benchmarks](benchmarks/README.md)": "`benchmarks/README.md`",
    "[README](README.md)": "README, which [Architecture](architecture.md) shows,",
    "[changelog](CHANGELOG.md)": "[changelog](changelog.md)",
    "[licence](LICENSE)": "licence",
}
TABLES = {  # of the README, by how their first lines begin
    "maps": "| map |",
    "drawn": "| rows from | told apart |",
    "filled": "| model | NRMSE",
    "drawn_for_a_model": "| rows from | score",
}


def section(text: str, title: str) -> str:
    """Return what a text has under a heading of the second level."""
    _, _, rest = text.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def table(text: str, head: str) -> str:
    """Return the table whose first line begins like this."""
    return text[text.index(f"\n{head}") + 1 :].partition("\n\n")[0] + "\n"


def write(folder: Path) -> None:
    """Write the parts as files that pages include."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = {
        "results": section(readme, "Results"),
        "design": section(readme, "Design"),
        "contributing": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    parts |= {name: table(readme, head) for name, head in TABLES.items()}
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        for link, shown in LINKS.items():
            text = text.replace(link, shown)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
