"""Evidence against closed forms and quadrature, and the codes that it is summed at."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import (
    N_CODES,
    N_FEATURES,
    OF_CELLS,
    cells_of_table,
    cells_with_holes,
    curved_vae,
    draws,
    exact_log_density,
    linear_vae,
    misled_vae,
    mixture,
    ppca_of_table,
    rows_of_table,
    seen_cells,
)
from numpy.testing import assert_allclose
from scipy import stats
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional
from torch.testing import assert_close

from skae.model._evidence import (
    Gaussians,
    Proposal,
    expected_cells,
    laplace_approximation,
    log_evidence,
    weighted_codes,
)
from skae.network._cells import Cells
from skae.network._importance import (
    importance_draws,
    log_joint,
    log_mean_exp,
    log_prob,
    normal_points,
)
from skae.network._likelihoods import Bernoulli, Binary, Categorical, Laplace, Poisson
from skae.network._normal import gaussian_draws, gaussian_kl, gaussian_log_prob
from skae.network._outputs import Mixed
from skae.network._priors import GaussianMixture, StandardNormal

AT_ONCE = 10**6
SEEDS = st.integers(0, 2**32 - 1)
PRIORS = {"normal": StandardNormal, "mixture": mixture}
OF_PRIORS = pytest.mark.parametrize("make_prior", PRIORS.values(), ids=PRIORS)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def astray_vae(seed, n_codes=N_CODES):
    """Make probabilistic PCA with an encoder that knows little of it."""
    model = linear_vae(n_codes=n_codes)
    model.encoder.bias += draws(2 * n_codes, seed=seed)
    model.encoder.weight += 0.3 * draws(2 * n_codes, N_FEATURES, seed=seed)
    return model


def precision_at(model, cells, z):
    """Return minus the second derivatives of each row's log-joint density."""
    with torch.enable_grad():
        matrices = [
            hessian(lambda code, row=row: log_joint(model, code, row).sum(), code)
            for row, code in zip(cells.split(1), z.split(1), strict=True)
        ]
    return -torch.stack([matrix[0, :, 0] for matrix in matrices])


def slope_at(model, cells, z):
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(log_joint(model, leaf, cells).sum(), leaf)
    return slope


def precision_of(gaussians):
    return gaussians.factor @ gaussians.factor.mT


def around_the_mode(model, cells):
    return laplace_approximation(model, cells, model.posterior(cells)[0])


# --------------------------------------------------------------------------- Gaussians


def gaussians(seed, n_rows=3, n_components=N_CODES):
    noise = draws(n_rows, n_components, n_components + 1, seed=seed)
    spread = noise[:, :, 1:]
    precision = spread @ spread.mT + 0.1 * torch.eye(n_components)
    return Gaussians(noise[:, :, 0], torch.linalg.cholesky(precision))


@given(seed=SEEDS, n_components=st.integers(1, 5), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_densities_are_those_of_correlated_normals(seed, n_components, scale):
    own = gaussians(seed, n_components=n_components)
    own = Gaussians(own.mean, own.factor / scale)
    z = own.mean + scale * draws(7, 3, n_components, seed=seed)
    found = own.log_prob(z)
    covariances = torch.linalg.inv(precision_of(own))
    for row, (mean, covariance) in enumerate(zip(own.mean, covariances, strict=True)):
        normal = stats.multivariate_normal(mean, covariance)
        assert_allclose(found[:, row], normal.logpdf(z[:, row]), rtol=1e-6, atol=1e-6)


@given(seed=SEEDS, n_components=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_draws_have_the_mean_and_the_covariance(seed, n_components):
    own = gaussians(seed, n_components=n_components)
    z = own.draws(normal_points(4096, n_components))
    assert z.shape == (4096, 3, n_components)
    for row, precision in enumerate(precision_of(own)):
        whitened = (z[:, row] - own.mean[row]) @ own.factor[row]
        assert_allclose(whitened.mean(dim=0), 0, atol=0.01)
        covariance = torch.cov(z[:, row].T).reshape(n_components, n_components)
        unit = torch.eye(n_components).double()
        assert_close(covariance @ precision, unit, atol=0.3, rtol=0)
        assert_close(torch.cov(whitened.T).reshape_as(unit), unit, atol=0.03, rtol=0)


def test_draws_are_as_likely_as_their_noise():
    own, noise = gaussians(0), draws(7, N_CODES)
    at_mean = own.log_prob(own.mean[None])
    expected = at_mean - 0.5 * noise.square().sum(dim=1, keepdim=True)
    assert_close(own.log_prob(own.draws(noise)), expected)


# ----------------------------------------------------------------- around the mode


def posterior_of_ppca(cells):
    seen = torch.ones(cells.values.shape) if cells.seen is None else cells.seen
    known = ppca_of_table().given(cells.values.numpy(), seen.numpy() > 0)
    return torch.from_numpy(known.codes), torch.from_numpy(known.covariances)


@OF_CELLS
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_around_the_mode_of_a_linear_model_is_its_posterior(make_cells, seed):
    cells = make_cells()
    codes, covariances = posterior_of_ppca(cells)
    found = around_the_mode(astray_vae(seed), cells)
    assert_close(found.mean, codes)
    assert_close(torch.linalg.inv(precision_of(found)), covariances)


LOSSES = {
    "gaussian": lambda: None,
    "laplace": lambda: Laplace(
        torch.full((N_FEATURES,), 0.5).double(), torch.zeros(N_FEATURES).double()
    ),
    "bernoulli": Bernoulli,
    "poisson": lambda: Poisson(
        torch.zeros(N_FEATURES).double(), torch.ones(N_FEATURES).double()
    ),
}
FROM_TABLE = {
    "gaussian": lambda rows: rows,
    "laplace": lambda rows: rows,
    "bernoulli": lambda rows: (rows > 1).double(),
    "poisson": lambda rows: rows.clamp(min=0).round(),
}


def curved_case(likelihood, make_prior=StandardNormal, n_codes=1):
    """Make a model with a wide encoder and rows, half with holes, for a likelihood."""
    model = curved_vae(make_prior(n_codes).double(), LOSSES[likelihood](), n_codes)
    model.encoder[-1].bias[n_codes:] += 1.0
    seen = seen_cells(10).double()
    seen[5:] = 1
    return model, Cells(FROM_TABLE[likelihood](rows_of_table(10)), seen)


@OF_PRIORS
@pytest.mark.parametrize("likelihood", LOSSES)
def test_the_climb_ends_no_lower_than_the_encoder(likelihood, make_prior):
    model, cells = curved_case(likelihood, make_prior, n_codes=2)
    start = model.posterior(cells)[0]
    end = laplace_approximation(model, cells, start).mean
    risen = log_joint(model, end, cells) - log_joint(model, start, cells)
    assert (risen >= 0).all()
    assert (risen > 0).any()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
@pytest.mark.parametrize("n_codes", [1, 2])
def test_the_climb_ends_where_a_smooth_density_is_level(likelihood, n_codes):
    model, cells = curved_case(likelihood, n_codes=n_codes)
    found = around_the_mode(model, cells)
    slope = slope_at(model, cells, found.mean)
    step = torch.linalg.solve(precision_of(found), slope)
    assert (step * slope).sum(dim=1).max() < 0.05
    assert (step * slope).sum(dim=1).median() < 1e-6


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
def test_the_precision_is_that_of_the_density_at_the_mode(likelihood):
    model, cells = curved_case(likelihood, n_codes=2)
    found = around_the_mode(model, cells)
    assert_close(precision_of(found), precision_at(model, cells, found.mean))


def two_moded_vae(encoder_mean):
    """Make a VAE whose rows tell nothing of a code with two modes."""
    prior = GaussianMixture(2, N_CODES)
    prior.means[:, 0] = torch.tensor([-3.0, 3.0])
    prior.log_variances.fill_(-1.0)
    model = linear_vae(prior)
    for network in (model.encoder, model.decoder):
        network.weight.zero_()
    model.encoder.bias.copy_(torch.tensor([encoder_mean, 0.0, 2.0, 2.0]))
    return model


def log_density_without_codes(model, cells):
    return log_prob(model, torch.zeros(1, N_CODES).double(), cells)


@pytest.mark.parametrize("encoder_mean", [0.0, 0.01, 0.5, -2.0])
def test_factors_are_those_of_proper_precisions_between_modes(encoder_mean):
    model, cells = two_moded_vae(encoder_mean), cells_of_table(5)
    start = model.posterior(cells)[0]
    if abs(encoder_mean) < 0.1:
        assert (torch.linalg.eigvalsh(precision_at(model, cells, start)) < 0).any()
    factor = laplace_approximation(model, cells, start).factor
    assert factor.isfinite().all()
    assert torch.equal(factor, factor.tril())
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()


def test_a_saddle_adds_a_multiple_of_one_to_the_precision():
    model, cells = two_moded_vae(0.0), cells_of_table(5)
    found = around_the_mode(model, cells)
    assert not found.mean.any()
    added = precision_of(found) - precision_at(model, cells, found.mean)
    damping = added[:, :1, :1]
    assert (damping > 0).all()
    assert_close(added, damping * torch.eye(N_CODES))


@pytest.mark.parametrize("encoder_mean", [0.01, 0.5, -2.0])
def test_the_climb_leaves_a_saddle_for_a_mode(encoder_mean):
    model, cells = two_moded_vae(encoder_mean), cells_of_table(5)
    found = around_the_mode(model, cells)
    side = math.copysign(3.0, encoder_mean)
    expected = torch.tensor([side, 0.0]).double().expand(5, 2)
    assert_close(found.mean, expected, atol=0.01, rtol=0)
    added = precision_of(found) - precision_at(model, cells, found.mean)
    assert_close(added, torch.zeros_like(added))


@pytest.mark.parametrize("encoder_mean", [0.0, 0.01, -2.0])
def test_evidence_between_modes_is_a_bound_that_closes(encoder_mean):
    model, cells = two_moded_vae(encoder_mean), cells_of_table(5)
    exact = log_density_without_codes(model, cells)
    found = log_evidence(model, cells, normal_points(4096, N_CODES), AT_ONCE)
    assert_close(found, exact, atol=0.02, rtol=0)
    for n_points in (2, 8):
        gap, error = mean_gap(model, cells, exact, n_points)
        assert gap > 3 * error


# -------------------------------------------------------------------------- proposals


@pytest.mark.parametrize("n_points", [1, 2, 7, 8])
def test_half_of_the_points_are_drawn_by_the_encoder(n_points):
    model, cells, points = curved_vae(), cells_with_holes(), draws(n_points, N_CODES)
    half = (n_points + 1) // 2
    z, log_density = Proposal.of(model, cells).draws(points)
    encoder, mode = model.posterior(cells), around_the_mode(model, cells)
    assert_close(z[:half], gaussian_draws(*encoder, points[:half, None, :]))
    assert_close(z[half:], mode.draws(points[half:]))
    by_encoder = gaussian_log_prob(z, *encoder).exp()
    by_mode = mode.log_prob(z).exp()
    density = (half * by_encoder + (n_points - half) * by_mode) / n_points
    assert_close(log_density.exp(), density)


def test_a_wide_code_is_drawn_by_the_encoder_alone(monkeypatch):
    model, cells, points = curved_vae(mixture()), cells_of_table(), draws(7, N_CODES)
    monkeypatch.setattr("skae.model._evidence.WIDEST_CODE", N_CODES - 1)
    assert Proposal.of(model, cells).mode is None
    _, log_weights = importance_draws(model, cells, points[:, None, :])
    found = log_evidence(model, cells, points, AT_ONCE)
    assert_close(found, log_mean_exp(log_weights))


class Attention(nn.Module):
    """Attention of one token to itself, whose slopes torch does not differentiate."""

    def forward(self, x):
        token = x.reshape(-1, 1, 1, x.shape[-1])
        attended = functional.scaled_dot_product_attention(token, token, token)
        return attended.reshape(x.shape)


def test_without_second_derivatives_the_encoder_draws_alone():
    model, cells, points = curved_vae(), cells_of_table(), draws(7, N_CODES)
    _, log_weights = importance_draws(model, cells, points[:, None, :])
    model.decoder = nn.Sequential(Attention(), model.decoder)
    assert Proposal.of(model, cells).mode is None
    found = log_evidence(model, cells, points, AT_ONCE)
    assert_close(found, log_mean_exp(log_weights))


def test_the_widest_code_is_still_looked_for_around_the_mode(monkeypatch):
    monkeypatch.setattr("skae.model._evidence.WIDEST_CODE", N_CODES)
    assert Proposal.of(curved_vae(), cells_of_table()).mode is not None


@pytest.mark.parametrize("n_at_once", [1, 7, 50, 10**9])
@pytest.mark.parametrize("climb", [True, False])
def test_rows_come_in_order_and_as_many_codes_as_asked_for(n_at_once, climb):
    model, cells, points = curved_vae(), cells_with_holes(), draws(7, N_CODES)
    parts, z, log_weights = zip(
        *weighted_codes(model, cells, points, n_at_once, climb=climb), strict=True
    )
    assert torch.equal(torch.cat([part.values for part in parts]), cells.values)
    assert torch.equal(torch.cat([part.seen for part in parts]), cells.seen)
    for codes, weights in zip(z, log_weights, strict=True):
        assert codes.shape[:2] == weights.shape
        assert codes.shape[2] == N_CODES
        assert weights.shape[1] == 1 or weights.numel() <= n_at_once


# ---------------------------------------------------------------- evidence, exactly


@pytest.mark.parametrize("n_points", [1, 2, 3, 8, 64])
def test_log_evidence_of_probabilistic_pca_is_exact(n_points):
    cells = cells_of_table(seed=1)
    found = log_evidence(linear_vae(), cells, normal_points(n_points, N_CODES), AT_ONCE)
    assert_close(found, exact_log_density(cells.values))


@pytest.mark.parametrize("n_points", [1, 2, 5, 64])
def test_evidence_of_seen_cells_is_exact_for_one_component(n_points):
    """The posterior given any cells is then a diagonal Gaussian."""
    model, cells = linear_vae(n_codes=1), cells_with_holes(n_codes=1, anchored=True)
    found = log_evidence(model, cells, normal_points(n_points, 1), AT_ONCE)
    assert_close(found, cells.log_density)


@given(seed=SEEDS, n_codes=st.sampled_from([1, 2]))
@settings(max_examples=6, deadline=None)
def test_evidence_of_a_linear_model_is_close_with_any_encoder(seed, n_codes):
    cells = cells_with_holes(n_codes=n_codes, anchored=True)
    model = astray_vae(seed, n_codes)
    for n_points, tolerance in ((100, 0.1), (4096, 2e-3)):
        points = normal_points(n_points, n_codes)
        found = log_evidence(model, cells, points, AT_ONCE)
        assert_close(found, cells.log_density, atol=tolerance, rtol=0)


@given(seed=SEEDS, n_points=st.sampled_from([2, 4, 10]))
@settings(max_examples=10, deadline=None)
def test_evidence_of_a_linear_model_is_never_more_than_doubled(seed, n_points):
    cells = cells_with_holes(anchored=True)
    points = draws(n_points, N_CODES, seed=seed)
    found = log_evidence(astray_vae(seed), cells, points, AT_ONCE)
    assert (found <= cells.log_density + math.log(2) + 1e-9).all()


@pytest.mark.parametrize("astray", [1.0, 3.0, 30.0])
def test_an_encoder_that_is_astray_costs_little_of_the_evidence(astray):
    model, cells = linear_vae(), cells_of_table()
    model.encoder.bias[:N_CODES] += astray
    exact, points = exact_log_density(cells.values), normal_points(128, N_CODES)
    found = log_evidence(model, cells, points, AT_ONCE)
    assert_close(found, exact, atol=0.02, rtol=0)
    _, log_weights = importance_draws(model, cells, points[:, None, :])
    by_encoder = log_mean_exp(log_weights)
    assert ((found - exact).abs() < (by_encoder - exact).abs()).all()


@pytest.mark.parametrize("make", [linear_vae, misled_vae])
def test_evidence_of_seen_cells_approaches_that_of_probabilistic_pca(make):
    cells = cells_with_holes(anchored=True)
    gaps = []
    for n_points in (2, 64, 4096):
        points = normal_points(n_points, N_CODES)
        found = log_evidence(make(), cells, points, AT_ONCE)
        gaps.append((cells.log_density - found).abs().max().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("make", [linear_vae, lambda: curved_vae(mixture())])
@pytest.mark.parametrize("tight", [True, False])
def test_a_row_with_nothing_seen_has_evidence_of_zero(make, tight):
    cells, points = cells_with_holes(), normal_points(8, N_CODES)
    found = log_evidence(make(), cells, points, AT_ONCE, tight=tight)
    assert found[0] == 0
    assert found[1:].all()


# ------------------------------------------------------------- evidence, from below


def log_evidence_by_quadrature(model, cells):
    grid = torch.linspace(-12, 12, 1201).double()
    z = grid[:, None, None].expand(-1, len(cells), 1)
    return torch.trapezoid(log_joint(model, z, cells).exp(), grid, dim=0).log()


def mean_gap(model, cells, exact, n_points, n_sets=1000):
    """Return what random points miss on average, and the error of that average."""
    points = draws(n_sets * n_points, model.prior.n_components)
    z, log_density = Proposal.of(model, cells).draws(points)
    log_weights = log_joint(model, z, cells) - log_density
    halves = log_weights.unflatten(0, (2, n_points // 2, n_sets))
    gaps = (exact - log_mean_exp(halves.flatten(0, 1))).mean(dim=1)
    return gaps.mean().item(), gaps.std().item() / n_sets**0.5


@OF_PRIORS
@pytest.mark.parametrize("likelihood", LOSSES)
def test_evidence_of_a_curved_model_approaches_that_of_quadrature(
    likelihood, make_prior
):
    model, cells = curved_case(likelihood, make_prior)
    exact = log_evidence_by_quadrature(model, cells)
    for n_points, tolerance in ((128, 0.02), (2048, 0.01)):
        found = log_evidence(model, cells, normal_points(n_points, 1), AT_ONCE)
        assert_close(found, exact, atol=tolerance, rtol=0)


@OF_PRIORS
@pytest.mark.parametrize("likelihood", LOSSES)
def test_evidence_of_a_curved_model_rises_to_that_of_quadrature(likelihood, make_prior):
    model, cells = curved_case(likelihood, make_prior)
    exact = log_evidence_by_quadrature(model, cells)
    gaps = [mean_gap(model, cells, exact, n_points) for n_points in (2, 16)]
    (wide, wide_error), (narrow, error) = gaps
    assert wide - narrow > 3 * math.hypot(wide_error, error)
    assert narrow > -3 * error


def test_evidence_of_a_linear_model_is_a_bound_on_average():
    model, cells = misled_vae(), cells_with_holes(anchored=True)
    gaps = [mean_gap(model, cells, cells.log_density, n_points) for n_points in (2, 8)]
    for gap, error in gaps:
        assert gap > 3 * error
    assert gaps[0][0] > gaps[1][0]


def test_quasi_random_points_come_closer_than_random_ones():
    model, cells = misled_vae(), cells_of_table(1)
    exact = exact_log_density(cells.values)
    found = log_evidence(model, cells, normal_points(1024, N_CODES), AT_ONCE)
    _, error = mean_gap(model, cells, exact, 1024, n_sets=50)
    assert (found - exact).abs().item() < 50**0.5 * error


def test_log_evidence_is_the_logarithm_of_the_mean_importance_weight():
    model, cells = curved_vae(mixture()), cells_with_holes(5)
    points = draws(7, N_CODES, seed=3)
    mean, log_variance = model.posterior(cells)
    mode = around_the_mode(model, cells)
    total = torch.zeros(5).double()
    for i, point in enumerate(points):
        by_encoder = mean + point * (0.5 * log_variance).exp()
        z = by_encoder[None] if i < 4 else mode.draws(point[None])
        joint = log_prob(model, z, cells) + model.prior.log_prob(z)
        density = (
            4 / 7 * gaussian_log_prob(z, mean, log_variance).exp()
            + 3 / 7 * mode.log_prob(z).exp()
        )
        total += (joint.exp() / density)[0]
    expected = (total / 7).log().where(cells.seen.any(dim=1), 0.0)
    assert_close(log_evidence(model, cells, points, AT_ONCE), expected)


def test_evidence_that_is_not_tight_is_the_mean_logarithm_of_the_weights():
    model, cells = misled_vae(), cells_with_holes(5)
    points = draws(7, N_CODES, seed=3)
    _, log_weights = importance_draws(model, cells, points[:, None, :])
    expected = log_weights.mean(dim=0).where(cells.seen.any(dim=1), 0.0)
    found = log_evidence(model, cells, points, AT_ONCE, tight=False)
    assert_close(found, expected)


def test_evidence_that_is_not_tight_falls_short_by_the_divergence():
    cells, model = cells_of_table(), misled_vae()
    points = normal_points(4096, N_CODES)
    posteriors = (*model.posterior(cells), *linear_vae().posterior(cells))
    expected = exact_log_density(cells.values) - gaussian_kl(*posteriors).sum(dim=1)
    found = log_evidence(model, cells, points, AT_ONCE, tight=False)
    assert_close(found, expected, atol=0.01, rtol=0)


def test_a_mixture_of_one_standard_part_is_the_standard_prior():
    single = GaussianMixture(1, N_CODES)
    cells, points = cells_with_holes(), normal_points(8, N_CODES)
    found = log_evidence(misled_vae(prior=single), cells, points, AT_ONCE)
    assert_close(found, log_evidence(misled_vae(), cells, points, AT_ONCE))


@pytest.mark.parametrize("tight", [True, False])
def test_evidence_is_that_of_the_model_alone(tight):
    points = normal_points(8, N_CODES)
    alone, found = (
        log_evidence(misled_vae(), cells, points, AT_ONCE, tight=tight)
        for cells in (cells_with_holes(), cells_with_holes(anchored=True))
    )
    assert torch.equal(found, alone)


# -------------------------------------------------------------- each row on its own


@OF_CELLS
@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("n_points", [8, 64])
def test_log_evidence_of_a_row_depends_on_no_other_row(make_cells, tight, n_points):
    model, cells = curved_vae(mixture()), make_cells()
    points = normal_points(n_points, N_CODES)
    order = torch.arange(30).flip(0)
    together, moved, alone = (
        log_evidence(model, some, points, AT_ONCE, tight=tight)
        for some in (
            cells,
            cells.index_select(0, order),
            cells.index_select(0, order[7:8]),
        )
    )
    assert_close(moved, together[order])
    assert_close(alone, together[order[7:8]])


@pytest.mark.parametrize("n_at_once", [1, 20, 64])
def test_results_depend_not_on_how_many_codes_are_in_memory(n_at_once):
    model, cells = curved_vae(mixture()), cells_with_holes()
    points = normal_points(8, N_CODES)
    for function in (log_evidence, expected_cells):
        found = function(model, cells, points, n_at_once)
        assert_close(found, function(model, cells, points, AT_ONCE))


def test_rows_on_a_saddle_change_no_other():
    model, points = two_moded_vae(0.0), normal_points(8, N_CODES)
    model.encoder.weight[0, 0] = 1.0
    model.encoder.bias[0] = 0.0
    cells = cells_of_table()
    with_saddle = cells.map(torch.clone)
    with_saddle.values[3, 0] = 0.0
    assert not model.posterior(with_saddle)[0][3].any()
    found, expected = (
        log_evidence(model, some, points, AT_ONCE) for some in (with_saddle, cells)
    )
    others = torch.arange(30) != 3
    assert torch.equal(found[others], expected[others])


MODELS = {
    "linear": linear_vae,
    "curved": curved_vae,
    "mixture": lambda: curved_vae(mixture()),
}


def expected_moments(*arguments):
    return torch.cat(expected_cells(*arguments), dim=1)


EXTREMES = [math.nan, math.inf, -math.inf, 1e30, -1e30]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_rows_change_no_other(make, dtype):
    model, cells = make().to(dtype), cells_of_table().map(lambda t: t.to(dtype))
    extreme, points = cells.map(torch.clone), normal_points(8, N_CODES)
    extreme.values[:5] = torch.tensor(EXTREMES)[:, None]
    for function in (log_evidence, expected_moments):
        found, expected = (
            function(model, some, points, AT_ONCE) for some in (extreme, cells)
        )
        assert found.shape == expected.shape
        assert torch.equal(found[5:], expected[5:])


@pytest.mark.parametrize("value", EXTREMES)
def test_an_extreme_cell_spoils_no_other_row(value):
    model, cells, points = curved_vae(), cells_with_holes(), normal_points(8, N_CODES)
    expected = log_evidence(model, cells, points, AT_ONCE)
    extreme = cells.map(torch.clone)
    extreme.values[1, 2] = value
    found = log_evidence(model, extreme, points, AT_ONCE)
    others = torch.arange(30) != 1
    assert torch.equal(found[others], expected[others])


@pytest.mark.parametrize("value", [1e30, -1e30])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_huge_rows_are_as_good_as_impossible(make, value):
    cells, points = Cells(torch.full((1, 4), value).double()), normal_points(8, N_CODES)
    assert log_evidence(make(), cells, points, AT_ONCE).item() < -1e50


# ------------------------------------------------------------ precision and gradients


@OF_PRIORS
def test_single_precision_tells_the_same(make_prior):
    cells, points = cells_with_holes(), normal_points(8, N_CODES)
    for function in (log_evidence, expected_cells):
        model = curved_vae(make_prior(N_CODES).double())
        expected = function(model, cells, points, AT_ONCE)
        found = function(model.float(), cells.map(torch.Tensor.float), points, AT_ONCE)
        for single, double in zip(found, expected, strict=True):
            assert single.dtype == torch.float32
            assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


def test_no_gradients_are_left():
    model, cells, points = curved_vae(), cells_with_holes(), normal_points(8, N_CODES)
    found = [
        log_evidence(model, cells, points, AT_ONCE),
        log_evidence(model, cells, points, AT_ONCE, tight=False),
        *expected_cells(model, cells, points, AT_ONCE),
    ]
    mode = around_the_mode(model, cells)
    for tensor in (*found, mode.mean, mode.factor):
        assert not tensor.requires_grad
    assert not torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_factor_of_a_mode_has_no_gradients_where_others_are_kept():
    model, cells = curved_vae(), cells_with_holes()
    with torch.enable_grad():
        expected = around_the_mode(model, cells)
    assert not expected.factor.requires_grad
    assert_close(expected.mean.detach(), around_the_mode(model, cells).mean)
    assert all(parameter.grad is None for parameter in model.parameters())


# -------------------------------------------------------------------- expected cells


def conditional_moments(cells):
    """Return mean and variance of all cells given the seen ones, exactly."""
    ppca = ppca_of_table()
    known = ppca.given(cells.values.numpy(), cells.seen.numpy() > 0)
    mean = ppca.mean + known.codes @ ppca.loadings.T
    variance = ppca.loadings @ known.covariances @ ppca.loadings.T
    variance = variance.diagonal(axis1=1, axis2=2) + ppca.noise_variance
    return known.filled, mean, variance


@pytest.mark.parametrize("make", [linear_vae, misled_vae, lambda: astray_vae(0)])
def test_expected_cells_approach_the_conditional_mean_of_probabilistic_pca(make):
    cells, points = cells_with_holes(), normal_points(4096, N_CODES)
    mean, variance = expected_cells(make(), cells, points, AT_ONCE)
    filled, exact_mean, exact_variance = conditional_moments(cells)
    hole = cells.seen.numpy() == 0
    assert_allclose(mean.numpy()[hole], filled[hole], atol=0.02)
    assert_allclose(mean.numpy(), exact_mean, atol=0.02)
    assert_allclose(variance.numpy(), exact_variance, rtol=0.02)


def test_expected_cells_are_weighted_sums_over_the_draws():
    model, cells = curved_vae(mixture()), cells_with_holes()
    points = draws(7, N_CODES)
    ((_, z, log_weights),) = weighted_codes(model, cells, points, AT_ONCE)
    first, second = torch.zeros(30, 4).double(), torch.zeros(30, 4).double()
    for draw, weight in zip(z, log_weights.softmax(dim=0), strict=True):
        output = model.decoder(draw)
        means, variances = model.loss.mean(output), model.loss.variance(output)
        first += weight[:, None] * means
        second += weight[:, None] * (variances + means.square())
    mean, variance = expected_cells(model, cells, points, AT_ONCE)
    assert_close(mean, first)
    assert_close(variance, second - first.square())


def test_expected_levels_are_chances():
    centre = torch.tensor([0.3, 0.2, 0.5, 0.3]).double()
    scale = torch.tensor([0.4, 0.7, 0.7, 0.7]).double()
    levels = Mixed(
        [
            (Binary(centre[:1], scale[:1]), 1),
            (Categorical((3,), centre[1:], scale[1:]), 3),
        ]
    )
    model = curved_vae(loss=levels)
    raw = torch.eye(4).double()[torch.arange(30) % 3 + 1]
    cells = Cells((raw - centre) / scale, seen_cells()[:, :2].double())
    mean, _ = expected_cells(model, cells, normal_points(16, N_CODES), AT_ONCE)
    chances = mean * scale + centre
    assert (chances > 0).all()
    assert (chances < 1).all()
    assert_close(chances[:, 1:].sum(dim=1), torch.ones(30).double())
