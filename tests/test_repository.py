"""What lies beside the package agrees with it: recipes, workflows, the site."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

import skae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ON_CONDA = {"torch": "pytorch"}  # names that differ there


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def split(requirement):
    name, _, least = requirement.replace(" ", "").partition(">=")
    return ON_CONDA.get(name, name), least


def in_full(requirement, context):
    for name, value in context.items():
        requirement = requirement.replace(f"${{{{ {name} }}}}", value)
    return requirement


def test_the_conda_recipe_requires_what_the_package_does():
    recipe = read("conda/recipe.yaml")
    run = [in_full(r, recipe["context"]) for r in recipe["requirements"]["run"]]
    python = f"python{PROJECT['project']['requires-python']}"
    expected = [python, *PROJECT["project"]["dependencies"]]
    assert sorted(map(split, run)) == sorted(map(split, expected))


def test_the_conda_recipe_builds_what_the_package_is():
    recipe = read("conda/recipe.yaml")
    assert recipe["context"]["version"] == skae.__version__
    assert recipe["package"]["name"] == PROJECT["project"]["name"]
    assert set(PROJECT["build-system"]["requires"]) <= {
        r.replace(" ", "") for r in recipe["requirements"]["host"]
    }
    assert recipe["about"]["summary"] == PROJECT["project"]["description"]
    assert recipe["about"]["license"] == PROJECT["project"]["license"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")))
def test_workflows_are_read_and_ask_for_extras_that_there_are(path):
    jobs = read(path)["jobs"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    extras = {
        extra
        for step in steps
        if "-e " in step
        for extra in step.partition(".[")[2].partition("]")[0].split(",")
    }
    assert extras <= PROJECT["project"]["optional-dependencies"].keys()


def test_the_site_is_built_with_warnings_as_errors_everywhere():
    assert read(".readthedocs.yaml")["sphinx"]["fail_on_warning"] is True
    workflow = read(".github/workflows/docs.yml")["jobs"]["build"]["steps"]
    builds = [step["run"] for step in workflow if "sphinx" in step.get("run", "")]
    (build,) = builds
    assert "-W" in build.split()
    assert build in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_what_a_checkout_pins_covers_what_extras_ask_for():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    asked = {
        split(requirement)[0].lower()
        for extra in ("plot", "progress", "onnx", "examples", "docs", "test", "dev")
        for requirement in PROJECT["project"]["optional-dependencies"][extra]
        if not requirement.startswith("skae[")
    }
    assert {name.replace("_", "-") for name in asked} <= pinned
