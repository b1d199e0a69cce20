"""Likelihoods against closed forms, scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import (
    CENTRE,
    COUNT_CENTRE,
    FLOOR,
    FREQUENCIES,
    KINDS,
    LEVEL_SCALE,
    N_DRAWS,
    OF_COUNTS,
    OF_LIKELIHOODS,
    OF_NOISE,
    SCALE,
    SOME_WIDTHS,
    SPREAD,
    WIDTHS,
    assert_frequencies,
    indicators,
    likelihood,
    negative_binomial,
    of,
    outputs_of,
    padded,
    raw_of,
    rows_of,
    samples_of,
    shares,
)
from models import draws, generator
from numpy.testing import assert_allclose
from scipy import stats
from torch.distributions import Categorical as TorchCategorical
from torch.testing import assert_close

from skae.network._likelihoods import (
    LARGEST_LOG_FACTOR,
    LARGEST_LOG_RATE,
    NOISE_PACE,
    Bernoulli,
    Binary,
    Categorical,
    NegativeBinomial,
    Poisson,
)
from skae.network._outputs import RAREST, Mixed


def mean_and_spread(output):
    """Split an output of a likelihood with learned noise, as `likelihood` makes it."""
    mean, log_factor = np.split(output.numpy(), 2, axis=-1)
    log_factor = NOISE_PACE * log_factor
    factor = np.exp(LARGEST_LOG_FACTOR * np.tanh(log_factor / LARGEST_LOG_FACTOR))
    return mean, FLOOR + (np.array(SPREAD) - FLOOR) * factor


# ---------------------------------------------------------------- what outputs mean


def test_tangents_of_binary_columns_and_counts_stay_trainable():
    zero, one = ((value - CENTRE) / SCALE for value in (0, 1))
    binary, poisson = Binary(CENTRE, SCALE), Poisson(CENTRE, SCALE)
    for mean, chance in ((zero, RAREST), (one, 1 - RAREST)):
        logits, slope = binary.tangent(mean)
        assert_close(torch.sigmoid(logits), torch.full((3,), chance).double())
        assert_close(slope, SCALE / (RAREST * (1 - RAREST)))
    log_rate, slope = poisson.tangent(zero - 1)
    assert_close(log_rate.exp(), torch.full((3,), RAREST).double())
    assert_close(slope, SCALE / RAREST)


def test_tangents_of_levels_that_never_occur_stay_trainable():
    module = Categorical(WIDTHS, FREQUENCIES, LEVEL_SCALE)
    raw = torch.tensor([0.0, 0.4, 0.6, 1, 0, 0, 0, 0, 1]).double()
    output, slope = module.tangent((raw - FREQUENCIES) / LEVEL_SCALE)
    assert_close(output.exp(), raw.clamp(min=RAREST))
    assert_close(slope, LEVEL_SCALE / raw.clamp(min=RAREST))


@of(OF_LIKELIHOODS)
def test_particles_share_the_row(kind):
    module, output, x = KINDS[kind](), outputs_of(kind, 4, 10), rows_of(kind, 10)
    found = module.per_cell(output, x)
    for particle in range(4):
        assert_close(found[particle], module.per_cell(output[particle], x))
        for method in ("mean", "variance"):
            together, alone = getattr(module, method)(output), output[particle]
            assert_close(together[particle], getattr(module, method)(alone))


@of(OF_LIKELIHOODS)
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_outputs_stay_finite(kind, extreme):
    module, x = KINDS[kind](), rows_of(kind, 5)
    output = padded(kind, torch.zeros_like(x))
    output[:, ::2] = extreme
    output.requires_grad_()
    log_prob = module.row_sum(output, x, None)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert output.grad.isfinite().all()
    assert module.mean(output).isfinite().all()
    assert module.variance(output).isfinite().all()


@of(OF_COUNTS)
def test_unseen_cells_may_hold_counts_below_zero(kind):
    module = KINDS[kind]()
    x = ((-1.0 - COUNT_CENTRE) / SCALE)[None]
    found = module.row_sum(outputs_of(kind, 1), x, torch.zeros(1, 3).double())
    assert found.item() == 0


# -------------------------------------------------------------- densities and chances


@pytest.mark.parametrize(
    ("name", "distribution"), [("gaussian", stats.norm), ("laplace", stats.laplace)]
)
def test_densities_are_scipys(name, distribution):
    output, x = outputs_of(name, 30), 3 * draws(30, 3, seed=1)
    expected = distribution(*mean_and_spread(output)).logpdf(x)
    found = likelihood(name).per_cell(output, x).detach()
    assert_close(found, torch.from_numpy(expected))


def test_bernoulli_probabilities_are_scipys():
    output, x = 3 * draws(30, 3), (shares(30, 3) > 0.4).double()
    expected = stats.bernoulli(torch.sigmoid(output)).logpmf(x)
    assert_close(Bernoulli().per_cell(output, x), torch.from_numpy(expected))


def test_binary_probabilities_are_scipys_in_raw_units():
    output, x = 3 * draws(30, 3), rows_of("binary", 30)
    raw = raw_of("binary", x).round()
    expected = stats.bernoulli(torch.sigmoid(output)).logpmf(raw)
    found = Binary(CENTRE, SCALE).per_cell(output, x)
    assert_close(found, torch.from_numpy(expected))


def test_poisson_probabilities_are_scipys_per_scaled_unit():
    output, x = draws(30, 3), rows_of("poisson", 30)
    counts = raw_of("poisson", x).round()
    expected = stats.poisson(output.exp()).logpmf(counts) + SCALE.log().numpy()
    found = Poisson(COUNT_CENTRE, SCALE).per_cell(output, x)
    assert_close(found, torch.from_numpy(expected))


def test_negative_binomial_probabilities_are_scipys_per_scaled_unit():
    output, x = draws(30, 3), rows_of("negative_binomial", 30)
    counts = raw_of("negative_binomial", x).round()
    size = np.array([0.5, 2.0, 20.0])
    distribution = stats.nbinom(size, size / (size + output.exp().numpy()))
    expected = distribution.logpmf(counts) + SCALE.log().numpy()
    found = negative_binomial().per_cell(output, x).detach()
    assert_close(found, torch.from_numpy(expected))


def test_a_dispersion_is_learned_from_one_on():
    fresh = NegativeBinomial(COUNT_CENTRE, SCALE)
    output, x = draws(30, 3), rows_of("negative_binomial", 30)
    expected = negative_binomial((1.0, 1.0, 1.0)).per_cell(output, x)
    assert_close(fresh.per_cell(output, x), expected)
    assert [name for name, _ in fresh.named_parameters()] == ["log_size"]


def test_categorical_probabilities_are_those_of_torch():
    output, x, raw = 3 * draws(30, 9), rows_of("categorical", 30), indicators(30)
    found = KINDS["categorical"]().per_cell(output, x)
    parts = zip(output.split(WIDTHS, dim=1), raw.split(WIDTHS, dim=1), strict=True)
    for j, (logits, levels) in enumerate(parts):
        distribution = TorchCategorical(logits=logits)
        assert_close(found[:, j], distribution.log_prob(levels.argmax(dim=1)))


@given(widths=SOME_WIDTHS)
@settings(max_examples=40, deadline=None)
def test_columns_of_different_widths_have_separate_softmaxes(widths):
    ones = torch.ones(sum(widths)).double()
    module, output = Categorical(widths, 0 * ones, ones), 3 * draws(6, sum(widths))
    expected = [part.softmax(dim=1) for part in output.split(widths, dim=1)]
    assert_close(module.mean(output), torch.cat(expected, dim=1))
    alone = Mixed([(Categorical((w,), 0 * ones[:w], ones[:w]), w) for w in widths])
    x = torch.zeros(6, sum(widths)).double()
    x[:, torch.tensor([0, *widths[:-1]]).cumsum(dim=0)] = 1
    assert_close(module.per_cell(output, x), alone.per_cell(output, x))
    assert_close(module.mean(output), alone.mean(output))


def test_binary_is_categorical_of_two_levels():
    logits, x = draws(30, 3), rows_of("binary", 30)
    raw = raw_of("binary", x)
    pairs = torch.stack([1 - raw, raw], dim=2).flatten(1)
    scale = SCALE.repeat_interleave(2)
    centre = torch.stack([1 - CENTRE, CENTRE], dim=1).flatten()
    categorical = Categorical((2, 2, 2), centre, scale)
    output = torch.stack([torch.zeros_like(logits), logits], dim=2).flatten(1)
    binary = Binary(CENTRE, SCALE)
    found = categorical.per_cell(output, (pairs - centre) / scale)
    assert_close(found, binary.per_cell(logits, x))
    assert_close(categorical.mean(output)[:, 1::2], binary.mean(logits))


@given(share=st.floats(0, 1), logit=st.floats(-30, 30))
@settings(max_examples=50, deadline=None)
def test_bernoulli_fractions_are_shares_of_ones(share, logit):
    output = torch.tensor([[logit]], dtype=torch.float64)
    one, zero = (
        Bernoulli().per_cell(output, torch.full_like(output, v)) for v in (1, 0)
    )
    found = Bernoulli().per_cell(output, torch.full_like(output, share))
    assert_close(found, share * one + (1 - share) * zero)


def test_bernoulli_stays_finite_at_extreme_logits():
    output = torch.tensor([[1e4, -1e4]], requires_grad=True)
    log_prob = Bernoulli().row_sum(output, torch.tensor([[0.0, 0.0]]), None)
    log_prob.sum().backward()
    assert_close(log_prob, torch.tensor([-1e4]))
    assert_close(output.grad, torch.tensor([[-1.0, 0.0]]))


# ------------------------------------------------------- whole supports: sums, moments

N_COUNTS = 3000


def support_of(kind):
    """Return all values that the first cell can have, as rows of the matrix."""
    if kind == "categorical":
        rows = indicators(3)
        rows[:, :3] = torch.eye(3)
        return (rows - FREQUENCIES) / LEVEL_SCALE
    if kind in OF_COUNTS:
        counts = torch.arange(N_COUNTS).double()[:, None]
        return (counts - COUNT_CENTRE) / SCALE
    values = torch.tensor([0.0, 1.0]).double()[:, None].expand(2, 3)
    return (values - CENTRE) / SCALE if kind == "binary" else values


def chances_of(kind, output):
    """Return the support of the first cell and the chance of each value."""
    module, support = KINDS[kind](), support_of(kind)
    log_chances = module.per_cell(output.expand(len(support), -1), support).detach()
    if kind in OF_COUNTS:
        log_chances = log_chances - SCALE.log()
    return support, log_chances[:, 0].exp()


DISCRETE = ["bernoulli", "binary", "categorical", "poisson", "negative_binomial"]


@of(DISCRETE)
@pytest.mark.parametrize("seed", range(3))
def test_chances_of_all_values_sum_to_one(kind, seed):
    _, chances = chances_of(kind, 2 * outputs_of(kind, seed=seed))
    assert_close(chances.sum(), torch.tensor(1.0).double())


@of(DISCRETE)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_the_expectation(kind, seed):
    output = 2 * outputs_of(kind, seed=seed)
    support, chances = chances_of(kind, output)
    width = 3 if kind == "categorical" else 1
    expected = chances @ support[:, :width]
    assert_close(KINDS[kind]().mean(output)[:width], expected)


@of(OF_COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_variance_of_counts_is_that_of_their_chances(kind, seed):
    output = outputs_of(kind, seed=seed)
    support, chances = chances_of(kind, output)
    mean = chances @ support[:, 0]
    expected = chances @ (support[:, 0] - mean).square()
    assert_close(KINDS[kind]().variance(output)[0].detach(), expected)


@of(OF_NOISE)
def test_noise_has_the_variance_of_its_density(kind):
    distribution = {"gaussian": stats.norm, "laplace": stats.laplace}[kind]
    output = outputs_of(kind, 4)
    found = likelihood(kind).variance(output).detach()
    expected = distribution(*mean_and_spread(output)).var()
    assert_close(found, torch.from_numpy(expected))


def test_the_negative_binomial_tends_to_the_poisson():
    output, x = draws(30, 3), rows_of("poisson", 30)
    poisson = Poisson(COUNT_CENTRE, SCALE)
    gaps = []
    for size in (8.0, 80.0, 800.0, 8000.0):
        module = negative_binomial((size, size, size))
        gap = module.per_cell(output, x) - poisson.per_cell(output, x)
        gaps.append(gap.abs().max().item())
        ratio = module.variance(output) / poisson.variance(output) - 1
        assert_close(ratio, output.exp() / size, rtol=1e-9, atol=1e-12)
    assert_allclose(np.array(gaps[1:]) * 10 / gaps[:-1], 1, rtol=0.5)
    assert gaps[-1] < 0.02


def test_nearly_poisson_counts_keep_their_digits_in_single_precision():
    output, x = draws(30, 3), rows_of("poisson", 30)
    module = negative_binomial((1e6, 1e6, 1e6))
    exact = module.per_cell(output, x)
    found = module.float().per_cell(output.float(), x.float())
    assert_close(found.double(), exact, atol=0.01, rtol=0)


@of(OF_COUNTS)
def test_rates_are_bounded(kind):
    module = KINDS[kind]()
    output = torch.full((1, 3), 1e3).double()
    raw = raw_of(kind, module.mean(output))
    assert_allclose(raw.numpy(), np.exp(LARGEST_LOG_RATE))


# -------------------------------------------------------------------------- samples


@of(OF_NOISE)
def test_samples_follow_the_density(kind):
    distribution = {"gaussian": stats.norm, "laplace": stats.laplace}[kind]
    output = torch.tensor([3.0, 0.0, -1.0, 0.0, -20.0, 15.0], dtype=torch.float64)
    found = samples_of(kind, output).numpy()
    for j, moments in enumerate(zip(*mean_and_spread(output), strict=True)):
        expected = distribution(*moments)
        assert stats.kstest(found[:, j], expected.cdf).pvalue > 0.01
    correlation = np.corrcoef(found.T) - np.eye(3)
    assert abs(correlation).max() < 4 / np.sqrt(N_DRAWS)


def test_samples_of_binary_columns_are_standardised_ones():
    output = torch.tensor([-2.0, 0.0, 3.0]).double()
    found = raw_of("binary", samples_of("binary", output))
    assert_close(found, found.round())
    assert_frequencies(found, torch.sigmoid(output))


def test_samples_of_levels_come_in_any_shape():
    module = KINDS["categorical"]()
    found = module.sample(outputs_of("categorical", 4, 5), generator())
    raw = LEVEL_SCALE * found + FREQUENCIES
    assert found.shape == (4, 5, 9)
    assert_close(module.levels.sum(raw), torch.ones(4, 5, 3).double())


@of(OF_COUNTS)
def test_samples_of_counts_have_their_chances(kind):
    output = torch.tensor([1.0, 0.0, -1.0]).double()
    found = samples_of(kind, output)
    counts = raw_of(kind, found)
    assert_close(counts, counts.round())
    module = KINDS[kind]()
    variance = module.variance(output).detach()
    error = (variance / N_DRAWS).sqrt()
    assert ((found.mean(dim=0) - module.mean(output)).abs() < 4 * error).all()
    _, chances = chances_of(kind, output)
    chances = chances[:8].numpy()
    seen = np.bincount(counts[:, 0].round().int().numpy(), minlength=N_COUNTS)[:8]
    observed, expected = (
        np.append(part, whole - part.sum())
        for part, whole in ((seen, N_DRAWS), (N_DRAWS * chances, N_DRAWS))
    )
    assert stats.chisquare(observed, expected).pvalue > 0.01


# ------------------------------------------------------------------- learned noise


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("floor", [0.0, 0.01, 5.0, torch.inf])
def test_noise_starts_at_the_given_spread(name, floor):
    zero = torch.zeros(3, dtype=torch.float64)
    found = likelihood(name, floor=floor).spread(zero).detach()
    assert_close(found, torch.tensor(SPREAD, dtype=torch.float64))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("log_excess", [-1000.0, -5.0, 0.0, 3.0])
@pytest.mark.parametrize("log_factor", [-1000.0, -5.0, 0.0, 3.0])
def test_noise_never_falls_below_its_floor(name, log_excess, log_factor):
    module = likelihood(name, floor=0.3)
    module.log_excess.data.fill_(log_excess)
    assert (module.spread(torch.tensor(log_factor)) >= 0.3).all()


def test_a_start_below_the_floor_stays_about_where_it_is():
    module = likelihood("gaussian", floor=torch.inf)
    module.log_excess.data.fill_(-1000.0)
    found = module.spread(torch.zeros(3).double()).detach()
    assert_close(found, 0.99 * torch.tensor(SPREAD).double())


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_a_factor_on_the_spread_is_bounded_and_monotone(name):
    log_factor = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4]).double()[:, None]
    found = likelihood(name, floor=0.0).spread(log_factor).detach()
    ratio = (found / torch.tensor(SPREAD)).log()
    assert (ratio.diff(dim=0) > 0).all()
    assert_close(ratio[0], torch.full((3,), -LARGEST_LOG_FACTOR).double())
    assert_close(ratio[-1], torch.full((3,), LARGEST_LOG_FACTOR).double())


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_an_output_is_means_and_then_logarithms_of_factors(name):
    module, output = likelihood(name), outputs_of(name, 2, 6)
    mean, spread = (part.detach() for part in module.parts(output))
    expected = map(torch.from_numpy, mean_and_spread(output))
    for found, known in zip((mean, spread), expected, strict=True):
        assert_close(found, known)
    assert torch.equal(module.mean(output), output[..., :3])


def test_the_floor_is_kept_with_the_weights_but_not_trained():
    module = likelihood("gaussian")
    assert set(module.state_dict()) == {"floor", "log_excess"}
    assert [name for name, _ in module.named_parameters()] == ["log_excess"]


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_likeliest_spread_is_the_mean_deviation(name):
    x = 3 * draws(200, 1)
    output = torch.zeros(200, 2, dtype=x.dtype, requires_grad=True)
    deviation = x.abs().mean() if name == "laplace" else x.square().mean().sqrt()
    module = likelihood(name, [deviation.item()], floor=0.0)
    module.per_cell(output, x).sum().backward()
    zero = torch.zeros(1).double()
    assert_close(module.log_excess.grad, zero, atol=1e-9, rtol=0)
    assert_close(output.grad[:, 1:].sum(dim=0), zero, atol=1e-9, rtol=0)
