"""Public documentation follows numpydoc, and its code runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpydoc.validate import validate

import skae
from skae import AutoencoderTransformer, VAETransformer

README = Path(__file__).parents[1] / "README.md"
BUILT = {"_build", "_generated", "gallery"}  # not of the repository
SITE = README.parent / "docs"
# An extended summary, a "See Also" and examples are asked of classes, not of methods;
# RT02: what a method returns has a name, as in scikit-learn.
ASKED_OF_CLASSES = {"ES01", "SA01", "EX01", "RT02"}


def public_objects():
    for name in skae.__all__:
        cls = getattr(skae, name)
        yield f"skae.{name}"
        for member, function in inspect.getmembers(cls, inspect.isfunction):
            if not member.startswith("_") and function.__module__.startswith("skae."):
                yield f"skae.{name}.{member}"


@pytest.mark.parametrize("name", list(public_objects()))
def test_docstrings_are_complete(name):
    is_class = inspect.isclass(eval(name, {"skae": skae}))  # noqa: S307
    ignored = {"GL08"} if is_class else ASKED_OF_CLASSES
    ignored = ignored | ({"SA01", "ES01"} if "Display" in name else set())
    errors = [error for error in validate(name)["errors"] if error[0] not in ignored]
    assert errors == []


@pytest.mark.parametrize("name", list(public_objects()))
def test_lines_of_docstrings_are_whole(name):
    """A literal that is wrapped by a backslash leaves a hole, a long line breaks."""
    text = inspect.getdoc(eval(name, {"skae": skae}))  # noqa: S307
    wrong = [
        line
        for line in text.splitlines()
        if re.search(r"\S {2,}\S", line) or len(line) > 84
    ]
    assert wrong == []


@pytest.mark.parametrize("name", skae.__all__)
def test_every_parameter_is_documented_with_its_default(name):
    cls = getattr(skae, name)
    text = inspect.getdoc(cls)
    for parameter in inspect.signature(cls).parameters.values():
        line = re.search(rf"^(?:\w+, )*{parameter.name}(?:, \w+)* : ", text, re.M)
        assert line, parameter.name


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def pages():
    return [
        page
        for page in sorted(SITE.rglob("*.md"))
        if not BUILT & set(page.parts) and blocks_of(page)
    ]


def test_the_pages_of_the_site_are_found():
    """Without the sources that the build writes, and with the whole guide."""
    names = {page.stem for page in pages()}
    assert {"start", "width", "levels_and_holes", "deploying", "recipes"} <= names


# What skrub and shap import and call themselves is theirs to mend.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("page", [README, *pages()], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, monkeypatch):
    for cls in (AutoencoderTransformer, VAETransformer):  # a fit need not be a good one
        monkeypatch.setitem(cls.__init__.__kwdefaults__, "max_iter", 10)
    if page.stem == "recipes":
        pytest.importorskip("skrub")
        pytest.importorskip("shap")
    namespace, state = {"__name__": "__main__"}, np.random.get_state()  # noqa: NPY002
    try:
        for block in blocks_of(page):
            exec(block, namespace)  # noqa: S102
    finally:
        plt.close("all")
        if page.stem == "recipes":  # shap seeds the global generator
            np.random.set_state(state)  # noqa: NPY002


def test_every_public_name_is_in_the_reference():
    listed = re.findall(r"^   (\w+)$", (SITE / "api.rst").read_text(), re.M)
    assert sorted(listed) == sorted(skae.__all__)
