"""How the site is built, by `python -m sphinx -W --keep-going -b html docs OUT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.errors import ExtensionError

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks train no faster on more
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import architecture_picture  # noqa: E402
import front_page  # noqa: E402
import links  # noqa: E402
import quoted  # noqa: E402

import skae  # noqa: E402

project = "skae"
author = "The skae developers"
copyright = author  # noqa: A001
version = release = skae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/**/*.ipynb", "_generated"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "literal"  # single backticks in docstrings are names
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(sklearn|torch|numpy|pandas)\..*")]

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_title = "skae"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skae"},
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "show_toc_level": 2,
}
WITHOUT_SECTIONS = (  # pages with nothing to show in a column on the left
    "architecture",
    "benchmarks",
    "changelog",
    "coming_from",
    "contributing",
    "how_it_works",
    "index",
    "install",
    "recipes",
)
html_sidebars = {page: [] for page in WITHOUT_SECTIONS}

PARTS = ("first", "tables", "looking", "models")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"[/\\]plot_",
    "ignore_pattern": r"(quickstart|penguins|odd_rows)\.py",
    "subsection_order": [f"../examples/{part}" for part in PARTS],
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skae",),
    "reference_url": {"skae": None},
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 0,
    "plot_gallery": True,
}


def skip_inherited(app, what, name, member, skip, options):
    """Leave out what a class has from scikit-learn: it is documented there."""
    if what != "class":
        return None
    module = getattr(member, "__module__", None) or getattr(
        getattr(member, "fget", None), "__module__", ""
    )
    return True if not str(module).startswith("skae") else None


def write_parts(app):
    """Write what pages take from the source, the repository and a fit."""
    for part in (quoted, architecture_picture, front_page):
        part.write(HERE / "_generated")


def check_links(app, exception):
    """Refuse a site with links that lead nowhere."""
    if exception is None and app.builder.name == "html":
        broken = links.broken(Path(app.outdir))
        if broken:
            raise ExtensionError("links lead nowhere:\n" + "\n".join(broken))


def setup(app):
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("builder-inited", write_parts)
    app.connect("build-finished", check_links)
