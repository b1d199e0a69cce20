"""Every path on a pretended accelerator: one place for all, no doubles on Macs."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from models import generator
from pretended import pretended
from settings import ESTIMATORS, QUICK, curved_table
from sklearn.base import clone

from skae import AutoencoderTransformer, VAETransformer
from skae.network._layers import linear

MAC = "mps:0"  # where there is less
DEVICES = pytest.mark.parametrize("device", ["mps:0", "cuda:0"])
MORE = {
    "denoising": AutoencoderTransformer(noise=0.3, masking=0.2, **QUICK),
    "lbfgs alone": AutoencoderTransformer(solver="lbfgs", **QUICK),
    "counts": VAETransformer(likelihood="negative_binomial", **QUICK),
    "Poisson": VAETransformer(likelihood="poisson", **QUICK),
    "networks alone": VAETransformer(density="networks", **QUICK),
    "free bits": VAETransformer(beta=2.0, free_bits=0.1, kl_warmup=1, **QUICK),
}
ALL = {**ESTIMATORS, **MORE}
COUNTS = ("counts", "Poisson")


@pytest.fixture
def elsewhere(device, monkeypatch):
    with pretended(device, monkeypatch):
        yield


# ------------------------------------------------------------------- what is pretended


def rows(device):
    return torch.arange(12.0).reshape(3, 4).to(device)


@DEVICES
def test_pretended_tensors_say_where_they_are(elsewhere, device):
    x, module = rows(device), linear(4, 4, generator()).double()
    module = module.to(torch.device(device), torch.float32)
    (slope,) = torch.autograd.grad(module(x).square().sum(), module.weight)
    draws = torch.Generator(device).manual_seed(0)
    made = [x[0], x.detach(), x @ x.T, x.new_zeros(3), torch.zeros_like(x), slope]
    made += [module(x), torch.nn.Parameter(x), torch.zeros(2, device=device)]
    made += [torch.empty_like(x).normal_(generator=draws), *module.parameters()]
    assert {str(tensor.device) for tensor in made} == {device}
    assert {str(t.device) for t in (x.cpu(), torch.ones(2))} == {"cpu"}


@DEVICES
@pytest.mark.parametrize(
    ("misuse", "error"),
    [
        (lambda x: x + torch.ones(4), "same device"),
        (lambda x: x.index_select(0, torch.tensor([0])), "same device"),
        (lambda x: torch.cat([x, torch.ones(1, 4)]), "same device"),
        (lambda x: x.numpy(), "can't convert"),
        (lambda x: torch.rand(3, generator=torch.Generator(x.device)), "generator"),
        (lambda x: x.normal_(generator=torch.Generator()), "generator"),
    ],
)
def test_pretended_tensors_refuse_what_real_ones_do(elsewhere, device, misuse, error):
    with pytest.raises((RuntimeError, TypeError), match=error):
        misuse(rows(device))


@pytest.mark.parametrize("device", ["mps:0"])
@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: x.double(),
        lambda x: x.to(torch.float64),
        lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
        lambda x: torch.from_numpy(np.ones(3)).to(x.device),
    ],
)
def test_a_pretended_mac_has_no_doubles(elsewhere, misuse):
    with pytest.raises(TypeError, match="float64"):
        misuse(rows("mps:0"))


# ------------------------------------------------------------------------- every path


def whole_table(name):
    table = curved_table(70)
    if name in COUNTS:
        return np.random.default_rng(0).poisson(3, size=(70, 4)).astype(float)
    return table


def mixed_table(name):
    table = whole_table(name)
    frame = pd.DataFrame(table, columns=[f"c{i}" for i in range(table.shape[1])])
    groups = np.where(table[:, 0] > np.median(table[:, 0]), "high", "low")
    frame["group"], frame["town"] = groups, np.array([*"abc"] * 24)[:70]
    holes = np.random.default_rng(1).uniform(size=frame.shape) < 0.1
    return frame.mask(holes)


def answers(fitted, table):
    """Ask for everything that there is."""
    column = table.columns[-2] if isinstance(table, pd.DataFrame) else 1
    value = table[column].dropna().iloc[0] if column != 1 else float(table[0, 1])
    codes = fitted.transform(table)
    found = {
        "codes": codes,
        "rows": fitted.inverse_transform(codes),
        "scores": fitted.score_samples(table),
        "score": fitted.score(table),
        "errors": fitted.reconstruction_error(table),
        "drawn": fitted.sample(20, random_state=0),
        "given": fitted.sample(5, random_state=0, given={column: value}),
        "importance": fitted.explained_variance_ratio_,
    }
    if isinstance(table, pd.DataFrame):
        found["filled"] = fitted.impute(table)
        found["draws"] = fitted.impute(table, n_draws=2, random_state=0)[1]
        found["holes"] = fitted.sample(5, random_state=0, missing=True)
    if isinstance(fitted, VAETransformer):
        found["elbo"] = fitted.elbo(table)
        found["evidence"] = fitted.log_evidence(table)
        found["mean"], found["deviation"] = fitted.posterior(table)
    return found


FEW = ("AutoencoderTransformer, default", "denoising", "lbfgs alone", "networks alone")
CASES = [
    *((MAC, name, mixed_table) for name in ALL),
    *((MAC, name, whole_table) for name in FEW),
    *(("cuda:0", name, mixed_table) for name in FEW),
]


@pytest.mark.filterwarnings("ignore:.*(died|warm-up)")
@pytest.mark.parametrize(("device", "name", "make_table"), CASES)
def test_every_path_keeps_to_its_device(elsewhere, device, name, make_table):
    table = make_table(name)
    weight = np.random.default_rng(2).integers(1, 3, size=len(table))
    fitted = clone(ALL[name]).set_params(random_state=0)
    fitted.fit(table, sample_weight=weight)
    assert str(fitted.device_) == device
    assert str(next(fitted.module_.parameters()).device) == device
    for answer in answers(fitted, table).values():
        numbers = pd.DataFrame(np.atleast_1d(answer)).select_dtypes("number")
        assert not np.isinf(numbers.to_numpy()).any()
    fitted.set_params(warm_start=True).fit(table)


@DEVICES
def test_single_precision_is_single_everywhere(elsewhere):
    table = curved_table(70).astype(np.float32)
    fitted = AutoencoderTransformer(random_state=0, **QUICK).fit(table)
    assert fitted.transform(table).dtype == np.float32


@DEVICES
@pytest.mark.parametrize("name", ["denoising", "networks alone"])
def test_a_model_that_was_trained_elsewhere_is_loaded_on_the_cpu(
    device, name, monkeypatch
):
    table = whole_table(name)
    with pretended(device, monkeypatch):
        fitted = clone(ALL[name]).set_params(random_state=0).fit(table)
        codes, kept = fitted.transform(table), pickle.dumps(fitted)
    loaded = pickle.loads(kept)  # noqa: S301
    assert str(loaded.device_) == "cpu"
    np.testing.assert_allclose(loaded.transform(table), codes, rtol=1e-3, atol=1e-4)
