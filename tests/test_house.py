"""The rules of the house: who may import whom.

Wings are `table`, `network`, `training` and `model`. The estimators stand above them
and join them; `inspection` looks at estimators from the outside, and `export` reads
what they have fitted.
"""

from __future__ import annotations

import ast
import inspect
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import skae

ROOT = Path(skae.__file__).parent
WINGS = ("table", "network", "training", "model")
ABOVE = ("inspection", "export")
ESTIMATORS = (
    "skae._array_api",
    "skae._base",
    "skae._dask",
    "skae._fitted",
    "skae._passing",
    "skae._autoencoder",
    "skae._vae",
    "skae._imputer",
    "skae._progress",
)
PUBLIC = ("skae._autoencoder", "skae._vae")


def name_of(path):
    """Return the module that a file holds; a package is its own name."""
    parts = ("skae", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def base_of(module, node):
    """Return the package that a relative import starts from, in full."""
    if not node.level:
        return node.module
    is_package = FILES[module].name == "__init__.py"
    parts = module.split(".") + ["x"] * is_package
    package = ".".join(parts[: -node.level])
    return f"{package}.{node.module}" if node.module else package


def imports_of(module):
    """Name all that a module imports anywhere in it, in full."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = base_of(module, node)
            names = {f"{base}.{alias.name}" for alias in node.names}
            modules = names & FILES.keys()
            found |= modules or {base}
    return found


IMPORTS = {module: imports_of(module) for module in FILES}


def is_within(module, package):
    return module == package or module.startswith(f"{package}.")


def wing_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*WINGS, *ABOVE) else None


def reached_from(module):
    """Name all that is imported with a module, by way of the package's own modules."""
    found, open_ = set(), [module]
    while open_:
        new = IMPORTS.get(open_.pop(), set()) - found
        found |= new
        open_ += new
    return found


def broken(modules, forbidden, imports=IMPORTS.get):
    """List imports of modules from packages that are forbidden to them."""
    return sorted(
        f"{module} imports {imported}"
        for module in modules
        for imported in imports(module)
        if any(is_within(imported, package) for package in forbidden)
    )


def modules_of(*wings):
    return [module for module in FILES if wing_of(module) in wings]


def packages_of(*wings):
    return [f"skae.{wing}" for wing in wings]


# ----------------------------------------------------------------- what the rules read


def test_the_rules_read_every_module():
    assert {"skae", "skae._base", "skae.table._matrix"} <= FILES.keys()
    assert all(modules_of(wing) for wing in (*WINGS, *ABOVE))
    assert all(module in FILES for module in ESTIMATORS)


def test_relative_imports_are_resolved():
    assert "skae._schema" in IMPORTS["skae.table._matrix"]
    assert "skae.table._levels" in IMPORTS["skae.table._matrix"]
    assert "skae._vae" in IMPORTS["skae"]
    assert "numpy" in IMPORTS["skae.table._matrix"]
    own = {i for found in IMPORTS.values() for i in found if is_within(i, "skae")}
    assert own <= FILES.keys()


# -------------------------------------------------------------------------- the rules


def test_imports_run_downward_without_circles():
    graph = {
        module: {i for i in imports if i in FILES and i != module}
        for module, imports in IMPORTS.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")
    assert order[-1] == "skae"


def test_wings_have_no_circles_either():
    graph = {
        wing: {wing_of(i) for m in modules_of(wing) for i in IMPORTS[m]} - {wing, None}
        for wing in (*WINGS, *ABOVE)
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"circle of wings: {' -> '.join(error.args[1])}")


def test_the_table_knows_no_torch():
    assert broken(modules_of("table"), ["torch"], reached_from) == []


def test_the_table_knows_no_other_wing():
    others = packages_of("network", "training", "model")
    assert broken(modules_of("table"), others) == []


def test_network_and_training_know_no_tables():
    forbidden = ["sklearn", "pandas", "polars", "pyarrow", "narwhals", "skae.table"]
    assert broken(modules_of("network", "training"), forbidden, reached_from) == []


def test_training_knows_no_network():
    forbidden = packages_of("network", "model")
    assert broken(modules_of("training"), forbidden, reached_from) == []


def test_the_network_knows_neither_training_nor_models():
    forbidden = packages_of("training", "model")
    assert broken(modules_of("network"), forbidden, reached_from) == []


def test_models_know_neither_tables_nor_training():
    forbidden = packages_of("table", "training")
    assert broken(modules_of("model"), forbidden, reached_from) == []


def test_no_wing_knows_an_estimator():
    assert broken(modules_of(*WINGS), ESTIMATORS, reached_from) == []


def test_no_wing_imports_from_the_top_of_the_package():
    tops = [
        f"{module} imports skae"
        for module in FILES
        if module != "skae" and "skae" in IMPORTS[module]
    ]
    assert tops == []


def test_what_all_share_knows_nobody():
    shared = ["skae._schema", "skae._statistics", "skae._torch", "skae._state"]
    above = [*packages_of(*WINGS, *ABOVE), *ESTIMATORS]
    assert broken(shared, above) == []
    assert broken(["skae._schema", "skae._statistics"], ["torch"]) == []


def test_estimators_do_not_know_each_other():
    assert broken(["skae._vae"], ["skae._autoencoder"]) == []
    assert broken(["skae._autoencoder"], ["skae._vae"]) == []
    assert broken(["skae._base"], PUBLIC) == []


def test_inspection_knows_estimators_from_the_outside_alone():
    own = {i for m in modules_of("inspection") for i in IMPORTS[m] if i in FILES}
    public = {"skae", *PUBLIC, *modules_of("inspection")}
    assert own <= public


@pytest.mark.parametrize("above", ABOVE)
def test_nothing_but_the_package_itself_knows_what_is_above_all(above):
    others = [m for m in FILES if m != "skae" and wing_of(m) != above]
    assert broken(others, [f"skae.{above}"]) == []


def test_what_is_exported_knows_no_training():
    assert broken(modules_of("export"), packages_of("training")) == []


@pytest.mark.parametrize("kind", [skae.AutoencoderTransformer, skae.VAETransformer])
def test_an_estimator_can_be_read(kind):
    ours = [c for c in kind.__mro__ if c.__module__.startswith("skae")]
    methods = {n for c in ours for n, f in vars(c).items() if inspect.isfunction(f)}
    assert len(methods) <= 40
    assert all(len(inspect.getsourcelines(c)[0]) <= 500 for c in ours)


def test_functions_are_short():
    functions = [
        node
        for path in FILES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    lines = [sum(1 for _ in code_lines(function)) for function in functions]
    assert np.median(lines) < 8
    assert max(lines) <= 65


def code_lines(function):
    """Yield the lines of a function without its documentation."""
    documented = ast.get_docstring(function) is not None
    body = function.body[1:] if documented else function.body
    yield from range(function.lineno, function.body[0].lineno)
    if body:
        yield from range(body[0].lineno, body[-1].end_lineno + 1)
