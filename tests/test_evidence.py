"""Evidence against closed forms and quadrature, and the codes that it is summed at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from densities import (
    bound_of,
    model_around,
    network_density,
    rows_and_seen,
)
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
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional
from torch.testing import assert_close

from skae._schema import KINDS, Block
from skae.model._evidence import (
    Gaussians,
    NetworkBound,
    NetworkDensity,
    Proposal,
    laplace_approximation,
    weighted_codes,
)
from skae.model._model import Model
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


def known_of(model, cells, n_points):
    """Return what the density around a module says of rows by their seen cells."""
    linear_path = cells.seen is None or cells.log_variances is not None
    density = network_density(model, n_points, linear_path=linear_path)
    return density.given(*rows_and_seen(cells))


def log_evidence(model, cells, n_points, *, tight=True):
    if tight:
        return torch.from_numpy(known_of(model, cells, n_points).log_density)
    linear_path = cells.seen is None or cells.log_variances is not None
    density = network_density(model, n_points, linear_path=linear_path)
    return torch.from_numpy(bound_of(density, *rows_and_seen(cells)))


def log_evidence_at(model, cells, points, **options):
    """Compute the same at points of one's own, whatever is seen."""
    drawn = weighted_codes(model, cells, points, AT_ONCE, **options)
    return torch.cat([log_mean_exp(log_weights) for *_, log_weights in drawn])


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
    found = log_evidence(model, cells, 4096)
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


def narrow_and_two_moded_vae():
    """Make a VAE whose encoder knows of one of two modes that rows leave open."""
    model = two_moded_vae(3.0)
    model.encoder.bias[N_CODES:] = -2.0
    return model


@pytest.mark.parametrize("n_points", [1, 3, 7, 9])
def test_of_rows_with_holes_a_third_of_the_points_is_drawn_by_the_prior(n_points):
    model, cells = narrow_and_two_moded_vae(), cells_with_holes()
    points, n_prior = draws(n_points, N_CODES), n_points // 3
    holed = (cells.seen == 0).any(dim=1)
    assert 0 < holed.sum() < len(cells)
    z, log_density = Proposal.of(model, cells, by_prior=True).draws(points)
    usual, of_usual = Proposal.of(model, cells).draws(points)
    assert_close(z[:, ~holed], usual[:, ~holed])
    assert_close(log_density[:, ~holed], of_usual[:, ~holed])
    known = z[n_points - n_prior :, holed]
    by_prior = model.prior.draws(points[n_points - n_prior :])
    assert_close(known, by_prior.expand_as(known))
    shares = [math.ceil(n_points / 3), (n_points + 1) // 3, n_prior]
    encoder, mode = model.posterior(cells), around_the_mode(model, cells)
    densities = (
        gaussian_log_prob(z, *encoder).exp(),
        mode.log_prob(z).exp(),
        model.prior.log_prob(z).exp(),
    )
    pairs = zip(shares, densities, strict=True)
    density = sum(share * density for share, density in pairs) / n_points
    assert_close(log_density.exp()[:, holed], density[:, holed])


def test_what_holes_leave_open_is_looked_for_by_the_prior():
    model, cells = narrow_and_two_moded_vae(), cells_with_holes()
    holed = (cells.seen == 0).any(dim=1) & (cells.seen == 1).any(dim=1)
    exact = log_density_without_codes(model, cells)[holed]
    trained, start = (
        NetworkDensity(model_around(model, is_trained=is_trained), 4096).given(
            *rows_and_seen(cells)
        )
        for is_trained in (True, False)
    )
    found, lost = (torch.from_numpy(of.log_density)[holed] for of in (trained, start))
    assert_close(found, exact, atol=0.02, rtol=0)
    assert (exact - lost).median() > 0.5
    codes = trained.codes[:, holed, 0]
    left = ((codes < 0) * trained.log_weights[:, holed].softmax(dim=0)).sum(dim=0)
    assert_close(left, torch.full_like(left, 0.5), atol=0.01, rtol=0)


def test_the_elbo_is_drawn_by_the_encoder_alone_whatever_is_missing():
    model, cells = narrow_and_two_moded_vae(), cells_with_holes()
    trained, start = (
        NetworkBound(model_around(model, is_trained=is_trained), 8)
        for is_trained in (True, False)
    )
    found, expected = (
        bound.given(*rows_and_seen(cells)).log_density for bound in (trained, start)
    )
    assert_array_equal(found, expected)


def test_a_wide_code_is_drawn_by_the_encoder_alone(monkeypatch):
    model, cells, points = curved_vae(mixture()), cells_of_table(), draws(7, N_CODES)
    monkeypatch.setattr("skae.model._evidence.WIDEST_CODE", N_CODES - 1)
    assert Proposal.of(model, cells).mode is None
    _, log_weights = importance_draws(
        model, cells, model.posterior(cells), points[:, None, :]
    )
    found = log_evidence_at(model, cells, points)
    assert_close(found, log_mean_exp(log_weights))


class Attention(nn.Module):
    """Attention of one token to itself, whose slopes torch does not differentiate."""

    def forward(self, x):
        token = x.reshape(-1, 1, 1, x.shape[-1])
        attended = functional.scaled_dot_product_attention(token, token, token)
        return attended.reshape(x.shape)


def test_without_second_derivatives_the_encoder_draws_alone():
    model, cells, points = curved_vae(), cells_of_table(), draws(7, N_CODES)
    _, log_weights = importance_draws(
        model, cells, model.posterior(cells), points[:, None, :]
    )
    model.decoder = nn.Sequential(Attention(), model.decoder)
    assert Proposal.of(model, cells).mode is None
    found = log_evidence_at(model, cells, points)
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


def test_no_more_codes_are_decoded_at_once_than_asked_for_even_of_one_row():
    model, cells, points = curved_vae(), cells_with_holes(), draws(50, N_CODES)
    (expected,) = (
        torch.cat([log_weights for *_, log_weights in drawn], dim=1)
        for drawn in [list(weighted_codes(model, cells, points, 10**9, climb=False))]
    )
    decoder, sizes = model.decoder, []
    decoder.register_forward_hook(
        lambda module, inputs, output: sizes.append(output[..., 0].numel())
    )
    drawn = weighted_codes(model, cells, points, 7, climb=False)
    found = torch.cat([log_weights for *_, log_weights in drawn], dim=1)
    assert max(sizes) <= 7
    torch.testing.assert_close(found, expected)


# ---------------------------------------------------------------- evidence, exactly


@pytest.mark.parametrize("n_points", [1, 2, 3, 8, 64])
def test_log_evidence_of_probabilistic_pca_is_exact(n_points):
    cells = cells_of_table(seed=1)
    found = log_evidence(linear_vae(), cells, n_points)
    assert_close(found, exact_log_density(cells.values))


@pytest.mark.parametrize("n_points", [1, 2, 5, 64])
def test_evidence_of_seen_cells_is_exact_for_one_component(n_points):
    """The posterior given any cells is then a diagonal Gaussian."""
    model, cells = linear_vae(n_codes=1), cells_with_holes(n_codes=1, anchored=True)
    found = log_evidence(model, cells, n_points)
    assert_close(found, cells.log_density)


@given(seed=SEEDS, n_codes=st.sampled_from([1, 2]))
@settings(max_examples=6, deadline=None)
def test_evidence_of_a_linear_model_is_close_with_any_encoder(seed, n_codes):
    cells = cells_with_holes(n_codes=n_codes, anchored=True)
    model = astray_vae(seed, n_codes)
    for n_points, tolerance in ((100, 0.1), (4096, 2e-3)):
        found = log_evidence(model, cells, n_points)
        assert_close(found, cells.log_density, atol=tolerance, rtol=0)


@given(seed=SEEDS, n_points=st.sampled_from([2, 4, 10]))
@settings(max_examples=10, deadline=None)
def test_evidence_of_a_linear_model_is_never_more_than_doubled(seed, n_points):
    cells = cells_with_holes(anchored=True)
    points = draws(n_points, N_CODES, seed=seed)
    found = log_evidence_at(astray_vae(seed), cells, points)
    assert (found <= cells.log_density + math.log(2) + 1e-9).all()


@pytest.mark.parametrize("astray", [1.0, 3.0, 30.0])
def test_an_encoder_that_is_astray_costs_little_of_the_evidence(astray):
    model, cells = linear_vae(), cells_of_table()
    model.encoder.bias[:N_CODES] += astray
    exact, points = exact_log_density(cells.values), normal_points(128, N_CODES)
    found = log_evidence_at(model, cells, points)
    assert_close(found, exact, atol=0.02, rtol=0)
    _, log_weights = importance_draws(
        model, cells, model.posterior(cells), points[:, None, :]
    )
    by_encoder = log_mean_exp(log_weights)
    assert ((found - exact).abs() < (by_encoder - exact).abs()).all()


@pytest.mark.parametrize("make", [linear_vae, misled_vae])
def test_evidence_of_seen_cells_approaches_that_of_probabilistic_pca(make):
    cells = cells_with_holes(anchored=True)
    gaps = []
    for n_points in (2, 64, 4096):
        found = log_evidence(make(), cells, n_points)
        gaps.append((cells.log_density - found).abs().max().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 1e-3


@pytest.mark.parametrize("make", [linear_vae, lambda: curved_vae(mixture())])
@pytest.mark.parametrize("tight", [True, False])
def test_a_row_with_nothing_seen_has_evidence_of_zero(make, tight):
    found = log_evidence(make(), cells_with_holes(), 8, tight=tight)
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
        found = log_evidence(model, cells, n_points)
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
    found = log_evidence(model, cells, 1024)
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
    assert_close(log_evidence_at(model, cells, points), (total / 7).log())


def test_evidence_that_is_not_tight_is_the_mean_logarithm_of_the_weights():
    model, cells = misled_vae(), cells_with_holes(5)
    points = normal_points(7, N_CODES)
    _, log_weights = importance_draws(
        model, cells, model.posterior(cells), points[:, None, :]
    )
    expected = log_weights.mean(dim=0).where(cells.seen.any(dim=1), 0.0)
    found = log_evidence(model, cells, 7, tight=False)
    assert_close(found, expected)


def test_evidence_that_is_not_tight_falls_short_by_the_divergence():
    cells, model = cells_of_table(), misled_vae()
    posteriors = (*model.posterior(cells), *linear_vae().posterior(cells))
    expected = exact_log_density(cells.values) - gaussian_kl(*posteriors).sum(dim=1)
    found = log_evidence(model, cells, 4096, tight=False)
    assert_close(found, expected, atol=0.01, rtol=0)


def test_a_mixture_of_one_standard_part_is_the_standard_prior():
    single = GaussianMixture(1, N_CODES)
    cells = cells_with_holes()
    found = log_evidence(misled_vae(prior=single), cells, 8)
    assert_close(found, log_evidence(misled_vae(), cells, 8))


@pytest.mark.parametrize("climb", [True, False])
def test_evidence_is_that_of_the_model_alone(climb):
    points = normal_points(8, N_CODES)
    alone, found = (
        log_evidence_at(misled_vae(), cells, points, climb=climb)
        for cells in (cells_with_holes(), cells_with_holes(anchored=True))
    )
    assert torch.equal(found, alone)


# -------------------------------------------------------------- each row on its own


CASES = {"whole": cells_of_table, "holes": cells_with_holes}


@pytest.mark.parametrize("make_cells", CASES.values(), ids=CASES)
@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("n_points", [8, 64])
def test_log_evidence_of_a_row_depends_on_no_other_row(make_cells, tight, n_points):
    model, cells = curved_vae(mixture()), make_cells()
    order = torch.arange(30).flip(0)
    together, moved, alone = (
        log_evidence(model, some, n_points, tight=tight)
        for some in (
            cells,
            cells.index_select(0, order),
            cells.index_select(0, order[7:8]),
        )
    )
    assert_close(moved, together[order])
    assert_close(alone, together[order[7:8]])


@pytest.mark.parametrize("make_cells", CASES.values(), ids=CASES)
def test_moments_of_a_row_depend_on_no_other_row(make_cells):
    model, cells = curved_vae(mixture()), make_cells()
    order = torch.arange(30).flip(0)
    together, moved = (
        np.array(known_of(model, some, 8).moments())
        for some in (cells, cells.index_select(0, order))
    )
    assert_allclose(moved, together[:, order], atol=1e-6)


@pytest.mark.parametrize("chunk_rows", [1, 20, 64])
def test_results_depend_not_on_how_many_codes_are_in_memory(chunk_rows, monkeypatch):
    model, cells = curved_vae(mixture()), cells_with_holes()
    expected = known_of(model, cells, 8)
    monkeypatch.setattr(Model, "chunk_rows", chunk_rows)
    found = known_of(model, cells, 8)
    assert_allclose(found.log_density, expected.log_density)
    assert_allclose(found.moments(), expected.moments(), atol=1e-12)
    assert_allclose(found.effective_draws, expected.effective_draws)
    one, other = (
        known.draws(2, np.random.default_rng(0)).shape for known in (found, expected)
    )
    assert one == other


def test_what_stands_in_a_hole_does_not_matter():
    X, seen = rows_and_seen(cells_with_holes())
    density = network_density(curved_vae(), 8)
    one, other = (density.given(np.where(seen, X, hole), seen) for hole in (0.0, 9.0))
    assert_array_equal(one.log_density, other.log_density)
    assert_array_equal(one.moments(), other.moments())


def test_rows_on_a_saddle_change_no_other():
    model = two_moded_vae(0.0)
    model.encoder.weight[0, 0] = 1.0
    model.encoder.bias[0] = 0.0
    cells = cells_of_table()
    with_saddle = cells.map(torch.clone)
    with_saddle.values[3, 0] = 0.0
    assert not model.posterior(with_saddle)[0][3].any()
    found, expected = (log_evidence(model, some, 8) for some in (with_saddle, cells))
    others = torch.arange(30) != 3
    assert torch.equal(found[others], expected[others])


MODELS = {
    "linear": linear_vae,
    "curved": curved_vae,
    "mixture": lambda: curved_vae(mixture()),
}
EXTREMES = [math.nan, math.inf, -math.inf, 1e30, -1e30]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_rows_change_no_other(make, dtype):
    model, cells = make().to(dtype), cells_of_table().map(lambda t: t.to(dtype))
    extreme = cells.map(torch.clone)
    extreme.values[:5] = torch.tensor(EXTREMES)[:, None]
    found, expected = (known_of(model, some, 8) for some in (extreme, cells))
    assert found.log_density.shape == expected.log_density.shape
    assert_array_equal(found.log_density[5:], expected.log_density[5:])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_extreme_cells_change_no_moments_of_other_rows(make):
    cells = cells_with_holes()
    extreme = cells.map(torch.clone)
    extreme.values[1] = 1e30
    found, expected = (
        np.array(known_of(make(), some, 8).moments()) for some in (extreme, cells)
    )
    assert_array_equal(found[:, 2:], expected[:, 2:])


@pytest.mark.parametrize("value", EXTREMES)
def test_an_extreme_cell_spoils_no_other_row(value):
    model, cells, points = curved_vae(), cells_with_holes(), normal_points(8, N_CODES)
    expected = log_evidence_at(model, cells, points)
    extreme = cells.map(torch.clone)
    extreme.values[1, 2] = value
    found = log_evidence_at(model, extreme, points)
    others = torch.arange(30) != 1
    assert torch.equal(found[others], expected[others])


@pytest.mark.parametrize("value", [1e30, -1e30])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_huge_rows_are_as_good_as_impossible(make, value):
    cells = Cells(torch.full((1, 4), value).double())
    assert log_evidence(make(), cells, 8).item() < -1e50


# ------------------------------------------------------------ precision and gradients


@OF_PRIORS
def test_single_precision_tells_the_same(make_prior):
    model, cells = curved_vae(make_prior(N_CODES).double()), cells_with_holes()
    X, seen = rows_and_seen(cells)
    double = network_density(model, 8).given(X, seen)
    expected = double.log_density, np.array(double.moments())
    single = network_density(model.float(), 8).given(X.astype(np.float32), seen)
    assert single.log_density.dtype == np.float32
    assert double.log_density.dtype == np.float64
    assert_allclose(single.log_density, expected[0], rtol=1e-3, atol=1e-3)
    assert_allclose(single.moments(), expected[1], rtol=1e-3, atol=1e-3)


def test_no_gradients_are_left():
    model, cells = curved_vae(), cells_with_holes()
    with torch.enable_grad():
        known = known_of(model, cells, 8)
        known.moments()
        known.draws(2, np.random.default_rng(0))
        log_evidence(model, cells, 8, tight=False)
        network_density(model, 8).sample(3, np.random.default_rng(0))
    mode = around_the_mode(model, cells)
    for tensor in (known.codes, known.log_weights, mode.mean, mode.factor):
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


# --------------------------------------------------------------------------- moments


def conditional_moments(cells):
    """Return mean and variance of all cells given the seen ones, exactly."""
    ppca, (X, seen) = ppca_of_table(), rows_and_seen(cells)
    known = ppca.given(X, seen)
    variance = ppca.loadings @ known.covariances @ ppca.loadings.T
    variance = variance.diagonal(axis1=1, axis2=2) + ppca.noise_variance
    return known.filled, np.where(seen, 0.0, variance)


@pytest.mark.parametrize("make", [linear_vae, misled_vae, lambda: astray_vae(0)])
def test_moments_approach_those_of_probabilistic_pca(make):
    cells = cells_with_holes()
    mean, variance = known_of(make(), cells, 4096).moments()
    filled, expected = conditional_moments(cells)
    assert_allclose(mean, filled, atol=0.02)
    assert_allclose(variance, expected, rtol=0.02)


def test_seen_cells_are_as_they_are():
    X, seen = rows_and_seen(cells_with_holes())
    known = network_density(curved_vae(mixture()), 8).given(X, seen)
    mean, variance = known.moments()
    assert_array_equal(mean[seen], X[seen])
    assert_array_equal(variance[seen], 0)
    assert (variance[~seen] > 0).all()
    rows = known.draws(3, np.random.default_rng(0))
    assert_array_equal(rows[:, seen], np.tile(X[seen], (3, 1)))


def test_moments_are_weighted_sums_over_the_codes():
    model, cells = curved_vae(mixture()), cells_with_holes()
    known = known_of(model, cells, 7)
    first, second = torch.zeros(30, 4).double(), torch.zeros(30, 4).double()
    weights = known.log_weights.softmax(dim=0)
    for draw, weight in zip(known.codes, weights, strict=True):
        output = model.decoder(draw)
        means, variances = model.loss.mean(output), model.loss.variance(output)
        first += weight[:, None] * means
        second += weight[:, None] * (variances + means.square())
    mean, variance = known.moments()
    hole = cells.seen.numpy() == 0
    assert_allclose(mean[hole], first.numpy()[hole])
    assert_allclose(variance[hole], (second - first.square()).numpy()[hole])


def test_codes_and_weights_are_those_of_the_points():
    model, cells = curved_vae(mixture()), cells_with_holes()
    known = known_of(model, cells, 7)
    points = normal_points(7, N_CODES)
    ((_, z, log_weights),) = weighted_codes(model, cells, points, AT_ONCE)
    assert_close(known.codes, z)
    assert_close(known.log_weights, log_weights)


# ----------------------------------------------------------------------------- draws


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_draws_have_the_moments(make):
    known = known_of(make(), cells_with_holes(8), 256)
    mean, variance = known.moments()
    rows = known.draws(20_000, np.random.default_rng(1))
    assert rows.shape == (20_000, 8, N_FEATURES)
    error = np.sqrt(variance / 20_000)
    assert (np.abs(rows.mean(axis=0) - mean) <= 4.5 * error + 1e-9).all()
    assert_allclose(rows.var(axis=0), variance, rtol=0.1, atol=1e-3)


def test_drawn_cells_depend_on_each_other_as_in_probabilistic_pca():
    cells, ppca = cells_with_holes(8), ppca_of_table()
    rows = known_of(linear_vae(), cells, 2048).draws(40_000, np.random.default_rng(0))
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(N_FEATURES)
    for i, seen in enumerate(cells.seen.numpy() > 0):
        cross = covariance[np.ix_(~seen, seen)]
        gain = cross @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        expected = covariance[np.ix_(~seen, ~seen)] - gain @ cross.T
        found = np.cov(rows[:, i, ~seen].T).reshape(expected.shape)
        assert_allclose(found, expected, rtol=0.06, atol=0.1)


def test_draws_are_repeatable():
    known = known_of(curved_vae(), cells_with_holes(), 8)
    one, other = (known.draws(3, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(one, other)
    holes = ~known.seen.all(axis=1)
    another = known.draws(3, np.random.default_rng(8))
    assert (another != one).any(axis=2)[:, holes].all()


def test_a_sample_of_the_linear_model_is_that_of_probabilistic_pca():
    ppca = ppca_of_table()
    rows = network_density(linear_vae(), 8).sample(40_000, np.random.default_rng(0))
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(N_FEATURES)
    assert_allclose(rows.mean(axis=0), ppca.mean, atol=0.05)
    assert_allclose(np.cov(rows.T), covariance, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_sample_has_the_moments_given_nothing(make):
    density = network_density(make(), 4096)
    rows = density.sample(40_000, np.random.default_rng(0))
    nothing = np.zeros((1, N_FEATURES))
    mean, variance = density.given(nothing, nothing > 0).moments()
    assert_allclose(rows.mean(axis=0), mean[0], atol=0.06)
    assert_allclose(rows.var(axis=0), variance[0], rtol=0.06)


def test_samples_are_repeatable_and_as_many_as_asked_for(monkeypatch):
    density = network_density(curved_vae(), 8)
    one, other = (density.sample(50, np.random.default_rng(0)) for _ in range(2))
    assert_array_equal(one, other)
    monkeypatch.setattr(Model, "chunk_rows", 7)
    assert density.sample(50, np.random.default_rng(0)).shape == (50, N_FEATURES)


@pytest.mark.parametrize("n_points", [1, 8])
def test_every_code_of_an_exact_proposal_counts(n_points):
    known = known_of(linear_vae(), cells_of_table(), n_points)
    assert_allclose(known.effective_draws, n_points)


def test_effective_draws_are_at_most_the_points():
    known = known_of(misled_vae(), cells_with_holes(), 64)
    found = known.effective_draws
    assert ((found >= 1 - 1e-9) & (found < 64)).all()


def test_a_density_is_looked_for_at_as_many_points_as_asked_for():
    density = network_density(curved_vae(), 8)
    X, seen = rows_and_seen(cells_of_table(3))
    assert len(density.at(20).given(X, seen).codes) == 20
    assert len(density.given(X, seen).codes) == 8
    assert NetworkDensity(density.model).n_points == 100


# ------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("make", [misled_vae, curved_vae, lambda: astray_vae(1)])
def test_the_bound_is_below_the_evidence(make):
    cells = cells_with_holes()
    bound = log_evidence(make(), cells, 512, tight=False)
    assert (bound <= log_evidence(make(), cells, 512) + 0.02).all()
    assert bound[1:].sum() < log_evidence(make(), cells, 512)[1:].sum()


def test_the_bound_of_probabilistic_pca_is_its_evidence():
    cells = cells_of_table()
    found = log_evidence(linear_vae(), cells, 5, tight=False)
    assert_close(found, exact_log_density(cells.values))


# ---------------------------------------------------------------------------- levels


CENTRE = torch.tensor([0.3, 0.2, 0.5, 0.3]).double()
SCALE = torch.tensor([0.4, 0.7, 0.7, 0.7]).double()
LEVELS = (
    Block(KINDS["binary"], (1,), CENTRE[:1].numpy(), SCALE[:1].numpy()),
    Block(KINDS["categorical"], (3,), CENTRE[1:].numpy(), SCALE[1:].numpy()),
)


def given_levels():
    """Return what a network says of a column of two levels and one of three."""
    likelihood = Mixed(
        [
            (Binary(CENTRE[:1], SCALE[:1]), 1),
            (Categorical((3,), CENTRE[1:], SCALE[1:]), 3),
        ]
    )
    model = curved_vae(loss=likelihood)
    raw = torch.eye(4).double()[torch.arange(30) % 3 + 1]
    cells = Cells((raw - CENTRE) / SCALE, seen_cells()[:, :2].double())
    density = network_density(model, 16, LEVELS, linear_path=False)
    return density.given(*rows_and_seen(cells))


def test_expected_levels_are_chances():
    known = given_levels()
    mean, _ = known.moments()
    chances = (mean * SCALE.numpy() + CENTRE.numpy())[~known.seen[:, 1]]
    assert (chances[:, 1:] > 0).all()
    assert (chances[:, 1:] < 1).all()
    assert_allclose(chances[:, 1:].sum(axis=1), 1)
    binary = (mean * SCALE.numpy() + CENTRE.numpy())[~known.seen[:, 0], 0]
    assert ((binary > 0) & (binary < 1)).all()


def test_drawn_levels_are_levels():
    known = given_levels()
    raw = known.draws(50, np.random.default_rng(0)) * SCALE.numpy() + CENTRE.numpy()
    assert_allclose(raw, raw.round(), atol=1e-12)
    assert_allclose(raw[..., 1:].sum(axis=-1), 1)
    assert (raw.std(axis=0)[~known.seen] > 0).all()
