"""Objectives against closed forms: probabilistic PCA is the VAE known exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.decomposition import PCA
from torch import nn
from torch.testing import assert_close

from skae._likelihoods import (
    Binary,
    Categorical,
    Gaussian,
    Mixed,
    SquaredError,
    gaussian_kl,
    gaussian_log_prob,
)
from skae._linear import principal_components
from skae._networks import (
    Autoencoder,
    VariationalAutoencoder,
    multilayer_perceptron,
    seed_dropout,
)
from skae._objectives import (
    DEFENCE,
    EvidenceBound,
    Reconstruction,
    defended,
    expected_cells,
    importance_draws,
    log_evidence,
    log_mean_exp,
    log_prob,
    normal_points,
)
from skae._priors import GaussianMixture, StandardNormal
from skae._torch import Cells

N_FEATURES, N_CODES = 4, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rows_of_table(n_samples=30, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        rng.normal(size=(n_samples, N_FEATURES))
        @ np.random.default_rng(9).normal(size=(N_FEATURES, N_FEATURES))
        + 1
    )


def ppca_of_table(n_codes=N_CODES):
    return principal_components(rows_of_table().numpy(), n_codes).probabilistic()


def cells_of_table(n_samples=30, seed=0, *, anchored=False):
    rows = rows_of_table(n_samples, seed)
    return Cells(rows, log_density=exact_log_density(rows) if anchored else None)


def seen_cells(n_samples=30):
    """Choose seen cells: none in the first row and all in the second."""
    seen = draws(n_samples, N_FEATURES, seed=6) > -0.5
    seen[0], seen[1] = False, True
    return seen


def cells_with_holes(n_samples=30, seed=0, *, n_codes=N_CODES, anchored=False):
    """Make rows with holes, with what probabilistic PCA says of these."""
    ppca, seen = ppca_of_table(n_codes), seen_cells(n_samples)
    known = ppca.given(rows_of_table(n_samples, seed).numpy(), seen.numpy())
    log_density = torch.from_numpy(known.log_density)
    return Cells(
        torch.from_numpy(known.filled),
        seen.double(),
        torch.from_numpy(known.variances / ppca.variances).log(),
        log_density if anchored else None,
    )


CELLS = {
    "whole": cells_of_table,
    "anchored": lambda n=30: cells_of_table(n, anchored=True),
    "holes": cells_with_holes,
    "anchored holes": lambda n=30: cells_with_holes(n, anchored=True),
}
OF_CELLS = pytest.mark.parametrize("make_cells", CELLS.values(), ids=CELLS)


def repeated(cells, n_times):
    """Repeat the first row."""
    return cells.map(lambda t: t[:1].expand(n_times, *t.shape[1:]))


class Affine(nn.Module):
    """A map that is known exactly."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight).clone())
        self.bias = nn.Parameter(torch.as_tensor(bias).clone())

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


WIDTHS = (1,) * N_FEATURES


def reordered(model):
    """Let codes leave a model in another order, of which no objective may know."""
    model.order.copy_(model.order.flip(0))
    return model


def linear_vae(prior=None, n_codes=N_CODES):
    """Make probabilistic PCA of the table as a VAE, its factors on the spread one."""
    ppca = ppca_of_table(n_codes)
    mean, loadings, projection, variances = map(
        torch.from_numpy, (ppca.mean, ppca.loadings, ppca.projection, ppca.variances)
    )
    spread = torch.full_like(mean, ppca.noise_variance**0.5)
    model = VariationalAutoencoder(
        Affine(
            torch.cat([projection, torch.zeros_like(projection)]),
            torch.cat([-projection @ mean, variances.log()]),
        ),
        Affine(
            torch.cat([loadings, torch.zeros_like(loadings)]),
            torch.cat([mean, torch.zeros_like(mean)]),
        ),
        Gaussian(spread, torch.zeros_like(spread)),
        prior or StandardNormal(n_codes).double(),
        WIDTHS,
    )
    return reordered(model)


def misled_vae(**options):
    """Make a VAE whose posterior is off, so that its bounds are not tight."""
    model = linear_vae(**options)
    bias = model.encoder.bias.data
    bias += torch.tensor([0.2, -0.2, 0.6, 0.5])  # means, then log-variances
    return model


def curved_vae(prior=None, loss=None):
    model = linear_vae(prior)
    model.loss = loss or model.loss
    n_outputs = N_FEATURES + model.loss.n_extra
    for name, widths in {"encoder": (4, 5, 4), "decoder": (2, 5, n_outputs)}.items():
        network = multilayer_perceptron(
            widths, "tanh", 0.0, generator(), starts_at_zero=False
        )
        setattr(model, name, network.double())
    return model


def mixture():
    prior = GaussianMixture(3, N_CODES)
    prior.means.data = draws(3, N_CODES)
    return prior


def exact_log_density(rows):
    pca = PCA(N_CODES, svd_solver="full").fit(rows_of_table())
    return torch.from_numpy(pca.score_samples(rows))


def evidence_bound(model, seed=0, **changes):
    options = {"beta": 1.0, "kl_warmup": 0, "free_bits": 0.0, "n_particles": 1}
    return EvidenceBound(model, generator(seed), **(options | changes))


def reconstruction(model, seed=0, **changes):
    options = {
        "noise_scale": None,
        "anneal": False,
        "masking": 0.0,
        "centre": torch.zeros(N_FEATURES).double(),
        "sparsity": 0.0,
    }
    return Reconstruction(model, generator(seed), **(options | changes))


def autoencoder():
    encoder, decoder = (
        multilayer_perceptron(widths, "tanh", 0.0, generator(), starts_at_zero=False)
        for widths in ((4, 5, 2), (2, 5, 4))
    )
    model = Autoencoder(encoder, decoder, SquaredError(), WIDTHS, n_components=2)
    return reordered(model.double())


def copying():
    """Make an autoencoder that returns what it sees: its loss is the corruption."""
    model = Autoencoder(
        nn.Identity(), nn.Identity(), SquaredError(), WIDTHS, n_components=N_FEATURES
    )
    return reordered(model)


def assert_gradients_are_finite_differences(model, loss, step=1e-5):
    loss().backward()
    for name, parameter in model.named_parameters():
        values = parameter.data.view(-1)
        numerical = torch.zeros_like(values)
        for i, value in enumerate(values.clone()):
            values[i] = value + step
            numerical[i] = loss().item()
            values[i] = value - step
            numerical[i] -= loss().item()
            values[i] = value
        assert_close(
            parameter.grad.view(-1),
            numerical / (2 * step),
            rtol=1e-5,
            atol=1e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )


# ------------------------------------------------------------------- reconstruction


def test_reconstruction_loss_of_pca_is_its_residual_variance():
    start = principal_components(rows_of_table().numpy(), N_CODES)
    components, mean = torch.from_numpy(start.components), torch.from_numpy(start.mean)
    model = Autoencoder(
        Affine(components, -components @ mean),
        Affine(components.T, mean),
        SquaredError(),
        WIDTHS,
        n_components=N_CODES,
    )
    loss = reconstruction(model).validation_loss(cells_of_table()).mean().item()
    discarded = start.noise_variance * (N_FEATURES - N_CODES) * 29 / 30
    assert_allclose(loss, discarded / N_FEATURES)


def test_training_and_validation_losses_agree_without_corruption():
    objective = reconstruction(autoencoder(), sparsity=0.3)
    for cells in (cells_of_table(), cells_with_holes()):
        assert_close(objective.training_loss(cells), objective.validation_loss(cells))


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_sparsity_adds_the_mean_absolute_code(sparsity):
    model, rows = autoencoder(), rows_of_table()
    expected = (model(rows) - rows).square().mean(dim=1)
    cells = Cells(rows)
    expected = expected + sparsity * model.code(cells).abs().mean(dim=1)
    objective = reconstruction(model, sparsity=sparsity)
    assert_close(objective.training_loss(cells), expected)
    assert_close(objective.validation_loss(cells), expected)


def test_rows_with_holes_cost_the_mean_over_their_seen_cells():
    model, cells = autoencoder(), cells_with_holes()
    found = reconstruction(model).training_loss(cells).detach().numpy()
    errors = (model(cells.values) - cells.values).square().detach().numpy()
    seen = cells.seen.numpy() > 0
    expected = [
        e[s].mean() if s.any() else 0 for e, s in zip(errors, seen, strict=True)
    ]
    assert_allclose(found, expected)


def test_noise_and_masks_fall_on_rows_but_not_on_what_is_seen():
    noise = torch.ones(N_FEATURES).double()
    told = []
    model = autoencoder()
    model.encode = lambda cells: told.append(cells) or cells.values[:, :2]
    cells = cells_with_holes(anchored=True)
    options = {"noise_scale": noise, "masking": 0.5}
    reconstruction(model, **options).training_loss(cells)
    assert (told[0].values != cells.values).all()
    for name in ("seen", "log_variances", "log_density"):
        assert getattr(told[0], name) is getattr(cells, name)


def test_noise_has_the_variance_asked_for_in_each_column():
    scale = torch.tensor([0.0, 0.1, 1.0, 3.0]).double()
    seen = []
    model = copying()
    model.encoder.register_forward_hook(lambda module, args, output: seen.append(args))
    rows = draws(4000, N_FEATURES)
    loss = reconstruction(model, 1, noise_scale=scale).training_loss(Cells(rows))
    noise = seen[0][0] - rows
    assert_close(loss, noise.square().mean(dim=1))
    assert not noise[:, 0].any()
    for column in (1, 2, 3):
        normal = stats.norm(scale=scale[column].item())
        assert stats.kstest(noise[:, column].numpy(), normal.cdf).pvalue > 0.01


@pytest.mark.parametrize("masking", [0.1, 0.7])
def test_masked_cells_are_the_centre_and_the_loss_is_of_the_clean_row(masking):
    centre = torch.tensor([5.0, 6.0, 7.0, 8.0]).double()
    rows = torch.zeros(5000, N_FEATURES).double()
    objective = reconstruction(copying(), masking=masking, centre=centre)
    found = objective.training_loss(Cells(rows))
    expected = masking * centre.square().mean()
    assert abs(found.mean() - expected) < 4 * found.std() / 5000**0.5
    possible = {
        sum(value for value, hide in zip((25, 36, 49, 64), hidden, strict=True) if hide)
        for hidden in np.ndindex(2, 2, 2, 2)
    }
    assert {round(4 * value) for value in found.tolist()} <= possible


def test_validation_sees_clean_rows():
    noise = torch.ones(N_FEATURES).double()
    objective = reconstruction(copying(), noise_scale=noise, masking=0.5)
    assert not objective.validation_loss(cells_of_table()).any()
    assert objective.training_loss(cells_of_table()).all()


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_annealed_noise_falls_with_the_learning_rate(rate):
    noise = torch.ones(N_FEATURES).double()
    cells = cells_of_table(2000)
    annealed, steady = (
        reconstruction(copying(), noise_scale=noise, anneal=anneal)
        for anneal in (True, False)
    )
    full = annealed.training_loss(cells)
    annealed.generator.manual_seed(0)
    for objective in (annealed, steady):
        objective.begin_epoch(0, 0.5)
        objective.begin_epoch(7, rate)
    assert_close(annealed.training_loss(cells), rate**2 * full)
    assert_close(steady.training_loss(cells), full)


@pytest.mark.parametrize("make_cells", [cells_of_table, cells_with_holes])
def test_gradients_of_the_reconstruction_are_finite_differences(make_cells):
    model, cells = autoencoder(), make_cells(5)
    noise = torch.ones(N_FEATURES).double()
    objective = reconstruction(model, noise_scale=noise, masking=0.3, sparsity=0.1)

    def loss():
        objective.generator.manual_seed(1)
        return objective.training_loss(cells).mean()

    assert_gradients_are_finite_differences(model, loss)


# ---------------------------------------------------------------- evidence, exactly


@pytest.mark.parametrize("n_points", [1, 3, 16, 64])
def test_log_evidence_of_probabilistic_pca_is_exact(n_points):
    cells = cells_of_table(seed=1)
    found = log_evidence(linear_vae(), cells, normal_points(n_points, N_CODES))
    assert_close(found.detach(), exact_log_density(cells.values))


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("n_particles", [2, 5])
def test_training_loss_of_probabilistic_pca_is_exact_with_particles(
    n_particles, anchored
):
    cells = cells_of_table(seed=1, anchored=anchored)
    loss = evidence_bound(linear_vae(), n_particles=n_particles).training_loss(cells)
    assert_close(-loss.detach(), exact_log_density(cells.values))


@pytest.mark.parametrize("anchored", [True, False])
def test_validation_loss_of_probabilistic_pca_is_exact(anchored):
    cells = cells_of_table(seed=1, anchored=anchored)
    loss = evidence_bound(linear_vae()).validation_loss(cells)
    assert_close(-loss.detach(), exact_log_density(cells.values))


def mean_bound(model, row, n_draws=8000, **options):
    cells = repeated(row, n_draws)
    with torch.no_grad():
        bound = -evidence_bound(model, **options).training_loss(cells)
    return bound.mean().item(), bound.std().item() / n_draws**0.5


def test_elbo_of_probabilistic_pca_is_its_log_density_on_average():
    row = cells_of_table(1)
    bound, error = mean_bound(linear_vae(), row)
    assert abs(bound - exact_log_density(row.values).item()) < 4 * error


def test_elbo_falls_short_by_the_divergence_from_the_true_posterior():
    row, model = cells_of_table(1), misled_vae()
    bound, error = mean_bound(model, row)
    posteriors = (*model.posterior(row), *linear_vae().posterior(row))
    gap = gaussian_kl(*posteriors).sum().item()
    assert gap > 0.2
    assert abs(bound + gap - exact_log_density(row.values).item()) < 4 * error


def test_particles_tighten_the_bound_from_below():
    row = cells_of_table(1)
    bounds = [mean_bound(misled_vae(), row, n_particles=k) for k in (1, 2, 5, 30)]
    for (low, low_error), (high, high_error) in itertools.pairwise(bounds):
        assert high - low > 2 * math.hypot(low_error, high_error)
    last, error = bounds[-1]
    assert last < exact_log_density(row.values).item() + 3 * error


def evidence_at_random_points(n_points, n_sets=500):
    """Return the mean of the estimate over sets of points, and its error."""
    model, row = misled_vae(), cells_of_table(1)
    with torch.no_grad():
        found = torch.cat(
            [
                log_evidence(model, row, points)
                for points in draws(n_sets, n_points, N_CODES)
            ]
        )
    return found.mean().item(), found.std().item() / n_sets**0.5


def test_log_evidence_rises_with_the_points_but_not_above_the_exact_value():
    estimates = [evidence_at_random_points(n_points) for n_points in (1, 4, 16, 64)]
    for (low, low_error), (high, high_error) in itertools.pairwise(estimates):
        assert high - low > 2 * math.hypot(low_error, high_error)
    last, error = estimates[-1]
    assert last < exact_log_density(rows_of_table()[:1]).item() + 3 * error


def test_quasi_random_points_come_closer_than_random_ones():
    row = cells_of_table(1)
    found = log_evidence(misled_vae(), row, normal_points(1024, N_CODES)).item()
    exact = exact_log_density(row.values).item()
    _, error = evidence_at_random_points(1024, n_sets=50)
    assert abs(found - exact) < 50**0.5 * error
    assert_allclose(found, exact, atol=0.02)


def test_log_evidence_is_the_logarithm_of_the_mean_importance_weight():
    model, cells = misled_vae(), cells_with_holes(5)
    points = draws(7, N_CODES, seed=3)
    mean, log_variance = model.posterior(cells)
    total = torch.zeros(5).double()
    for point in points:
        z = mean + point * (0.5 * log_variance).exp()
        joint = log_prob(model, z, cells) + model.prior.log_prob(z)
        total += (joint - gaussian_log_prob(z, mean, log_variance)).exp()
    expected = (total / 7).log().where(cells.seen.any(dim=1), 0.0)
    assert_close(log_evidence(model, cells, points), expected)


def test_evidence_that_is_not_tight_is_the_mean_logarithm_of_the_weights():
    model, cells = misled_vae(), cells_with_holes(5)
    points = draws(7, N_CODES, seed=3)
    _, log_weights = importance_draws(model, cells, points[:, None, :])
    expected = log_weights.mean(dim=0).where(cells.seen.any(dim=1), 0.0)
    found = log_evidence(model, cells, points, tight=False)
    assert_close(found, expected)
    assert (found <= log_evidence(model, cells, points)).all()


def test_evidence_that_is_not_tight_falls_short_by_the_divergence():
    cells, model = cells_of_table(), misled_vae()
    points = normal_points(4096, N_CODES)
    posteriors = (*model.posterior(cells), *linear_vae().posterior(cells))
    expected = exact_log_density(cells.values) - gaussian_kl(*posteriors).sum(dim=1)
    found = log_evidence(model, cells, points, tight=False)
    assert_close(found, expected, atol=0.01, rtol=0)


def test_logarithms_of_means_stay_finite_far_from_zero():
    log_weights = draws(5, 3)
    expected = log_weights.exp().mean(dim=0).log()
    assert_close(log_mean_exp(log_weights), expected)
    assert_close(log_mean_exp(log_weights - 1e4), expected - 1e4)
    assert_close(log_mean_exp(log_weights + 1e4), expected + 1e4)


@OF_CELLS
@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("n_points", [8, 64])
def test_log_evidence_of_a_row_depends_on_no_other_row(make_cells, tight, n_points):
    model, cells = curved_vae(mixture()), make_cells()
    points = normal_points(n_points, N_CODES)
    order = torch.arange(30).flip(0)
    together = log_evidence(model, cells, points, tight=tight)
    moved, alone = (
        log_evidence(model, cells.index_select(0, index), points, tight=tight)
        for index in (order, order[7:8])
    )
    assert_close(moved, together[order])
    assert_close(alone, together[order[7:8]])


def test_a_mixture_of_one_standard_part_is_the_standard_prior():
    single = GaussianMixture(1, N_CODES)
    cells, points = cells_with_holes(), normal_points(8, N_CODES)
    found = log_evidence(misled_vae(prior=single), cells, points)
    assert_close(found, log_evidence(misled_vae(), cells, points))


def test_sampled_and_closed_divergences_agree_on_average():
    single = GaussianMixture(1, N_CODES)
    row = cells_of_table(1)
    sampled, error = mean_bound(misled_vae(prior=single), row, n_draws=20_000)
    closed, other = mean_bound(misled_vae(), row, n_draws=20_000, seed=1)
    assert abs(sampled - closed) < 4 * math.hypot(error, other)


# ---------------------------------------------------------------- evidence with holes


@pytest.mark.parametrize("n_points", [1, 5, 64])
def test_evidence_of_seen_cells_is_exact_for_one_component(n_points):
    """The posterior given any cells is then a diagonal Gaussian."""
    model, cells = linear_vae(n_codes=1), cells_with_holes(n_codes=1, anchored=True)
    found = log_evidence(model, cells, normal_points(n_points, 1)).detach()
    assert_close(found, cells.log_density)
    assert found[0].abs() < 1e-12
    plain = cells_with_holes(n_codes=1)
    for loss in ("training_loss", "validation_loss"):
        found = -getattr(evidence_bound(model, n_particles=3), loss)(plain)
        assert_close(found.detach(), cells.log_density)


@pytest.mark.parametrize("make", [linear_vae, misled_vae])
def test_evidence_of_seen_cells_approaches_that_of_probabilistic_pca(make):
    cells, exact = cells_with_holes(), cells_with_holes(anchored=True).log_density
    gaps = []
    for n_points in (1, 64, 4096):
        bound = log_evidence(make(), cells, normal_points(n_points, N_CODES)).detach()
        gaps.append((exact - bound).abs().mean().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert (exact - bound).abs().max() < 0.05


def test_evidence_of_seen_cells_is_a_bound_on_average():
    whole = cells_with_holes(anchored=True)
    n_seen = whole.seen.sum(dim=1)
    row = torch.nonzero((n_seen > 0) & (n_seen < N_FEATURES))[0]
    cells = cells_with_holes().index_select(0, row)
    bounds = [mean_bound(misled_vae(), cells, n_particles=k) for k in (2, 5, 30)]
    for (low, low_error), (high, high_error) in itertools.pairwise(bounds):
        assert high - low > 2 * math.hypot(low_error, high_error)
    last, error = bounds[-1]
    assert last < whole.log_density[row].item() + 3 * error


def test_a_row_with_nothing_seen_has_evidence_of_zero():
    cells = cells_with_holes().index_select(0, torch.tensor([0]))
    found = log_evidence(linear_vae(), cells, normal_points(8, N_CODES))
    assert_close(found.detach(), torch.zeros(1).double())


def test_importance_draws_are_codes_of_the_posterior_with_their_weights():
    model, cells, noise = (
        curved_vae(mixture()),
        cells_with_holes(),
        draws(7, 1, N_CODES),
    )
    z, log_weights = importance_draws(model, cells, noise)
    mean, log_variance = model.posterior(cells)
    assert z.shape == (7, 30, N_CODES)
    assert_close((z - mean) / (0.5 * log_variance).exp(), noise.expand(7, 30, N_CODES))
    cell_log_prob = model.loss.per_cell(model.decoder(z), cells.values) * cells.seen
    expected = cell_log_prob.sum(dim=-1) + model.prior.log_prob(z)
    expected = expected - gaussian_log_prob(z, mean, log_variance)
    assert_close(log_weights, expected)
    assert_close(log_mean_exp(log_weights), log_weights.exp().mean(dim=0).log())


def test_values_of_unseen_cells_change_no_likelihood_of_codes():
    cells, z = cells_with_holes(), draws(7, 30, N_CODES)
    other = Cells(torch.where(cells.seen > 0, cells.values, 50.0), cells.seen)
    model = curved_vae()
    assert torch.equal(log_prob(model, z, cells), log_prob(model, z, other))


def blind(model):
    """Let an encoder see the first column alone."""
    encode = model.encoder

    class First(nn.Module):
        def forward(self, x):
            return encode(x * torch.tensor([1.0, 0, 0, 0]).double())

    model.encoder = First()
    return model


@pytest.mark.parametrize(
    "objective",
    [
        lambda: reconstruction(blind(autoencoder()), sparsity=0.1),
        lambda: evidence_bound(blind(curved_vae())),
        lambda: evidence_bound(blind(curved_vae()), n_particles=3),
        lambda: evidence_bound(blind(curved_vae(mixture())), beta=2.0),
    ],
    ids=["reconstruction", "ELBO", "particles", "mixture"],
)
@pytest.mark.parametrize("loss", ["training_loss", "validation_loss"])
def test_what_a_hole_is_filled_with_reaches_the_loss_by_the_encoder_alone(
    objective, loss
):
    seen = seen_cells().double()
    seen[:, 0] = 1
    losses = []
    for value in (0.0, 1.5, -40.0):
        rows = torch.where(seen > 0, rows_of_table(), value)
        losses.append(getattr(objective(), loss)(Cells(rows, seen)))
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


# -------------------------------------------------------------------- expected cells


def conditional_moments(cells):
    """Return mean and variance of all cells given the seen ones, exactly."""
    ppca = ppca_of_table()
    known = ppca.given(cells.values.numpy(), cells.seen.numpy() > 0)
    mean = ppca.mean + known.codes @ ppca.loadings.T
    variance = ppca.loadings @ known.covariances @ ppca.loadings.T
    variance = variance.diagonal(axis1=1, axis2=2) + ppca.noise_variance
    return known.filled, mean, variance


@pytest.mark.parametrize("make", [linear_vae, misled_vae])
def test_expected_cells_approach_the_conditional_mean_of_probabilistic_pca(make):
    cells = cells_with_holes()
    points = normal_points(8192, N_CODES)[:, None, :]
    with torch.no_grad():
        mean, variance = expected_cells(make(), cells, points)
    filled, exact_mean, exact_variance = conditional_moments(cells)
    hole = cells.seen.numpy() == 0
    assert_allclose(mean.numpy()[hole], filled[hole], atol=0.05)
    assert_allclose(mean.numpy(), exact_mean, atol=0.05)
    assert_allclose(variance.numpy(), exact_variance, rtol=0.1)


def test_expected_cells_are_weighted_sums_over_the_draws():
    model, cells, noise = (
        curved_vae(mixture()),
        cells_with_holes(),
        draws(7, 1, N_CODES),
    )
    z, log_weights = importance_draws(model, cells, noise)
    weights = log_weights.softmax(dim=0)
    first, second = torch.zeros(30, 4).double(), torch.zeros(30, 4).double()
    for draw, weight in zip(z, weights, strict=True):
        output = model.decoder(draw)
        means, variances = model.loss.mean(output), model.loss.variance(output)
        first += weight[:, None] * means
        second += weight[:, None] * (variances + means.square())
    mean, variance = expected_cells(model, cells, noise)
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
    mean, _ = expected_cells(model, cells, normal_points(16, N_CODES)[:, None, :])
    chances = mean * scale + centre
    assert (chances > 0).all()
    assert (chances < 1).all()
    assert_close(chances[:, 1:].sum(dim=1), torch.ones(30).double())


# ------------------------------------------------------------- beta, free bits, warm-up


def closed_form_kl(model, cells):
    return gaussian_kl(*model.posterior(cells), *model.prior.moments())


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_divergence(beta):
    model, cells = misled_vae(), cells_with_holes()
    weighed, plain = (
        evidence_bound(model, beta=b).training_loss(cells) for b in (beta, 1.0)
    )
    assert_close(weighed - plain, (beta - 1) * closed_form_kl(model, cells).sum(dim=1))


@pytest.mark.parametrize("n_particles", [1, 3])
def test_beta_weighs_the_divergence_of_validation_too(n_particles):
    model, cells = misled_vae(), cells_with_holes()
    strong, weak = (
        evidence_bound(model, beta=b, n_particles=n_particles).validation_loss(cells)
        for b in (4.0, 2.0)
    )
    assert_close(strong - weak, 2 * closed_form_kl(model, cells).sum(dim=1))


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
def test_with_another_beta_particles_only_average(prior):
    row, model = cells_of_table(1), misled_vae(prior=prior and prior())
    one, error = mean_bound(model, row, beta=2.0)
    several, other = mean_bound(model, row, beta=2.0, n_particles=5, seed=1)
    assert other < 0.6 * error
    assert abs(one - several) < 4 * math.hypot(error, other)


def test_free_bits_replace_what_a_component_says_below_them():
    model, cells = misled_vae(), cells_with_holes()
    kl = closed_form_kl(model, cells)
    free = kl.median().item()
    free_loss, plain_loss = (
        evidence_bound(model, free_bits=bits).training_loss(cells) for bits in (free, 0)
    )
    added = (free - kl).clamp(min=0).sum(dim=1)
    assert added.any()
    assert_close(free_loss - plain_loss, added)


def test_enough_free_bits_leave_the_likelihood_alone():
    model, cells = misled_vae(), cells_with_holes()
    free_loss = evidence_bound(model, free_bits=1e3).training_loss(cells)
    likelihood_loss = evidence_bound(model, beta=0.0).training_loss(cells)
    assert_close(free_loss, likelihood_loss + 1e3 * N_CODES)


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
def test_free_bits_hold_for_particles_and_in_validation(prior):
    model, cells = misled_vae(prior=prior and prior()), cells_with_holes()
    free, likelihood = (
        evidence_bound(model, n_particles=3, **options)
        for options in ({"free_bits": 1e3}, {"beta": 0.0})
    )
    free_nats = 1e3 * N_CODES
    for loss in ("training_loss", "validation_loss"):
        found, expected = getattr(free, loss)(cells), getattr(likelihood, loss)(cells)
        assert_close(found, expected + free_nats)


@pytest.mark.parametrize(
    ("kl_warmup", "expected"),
    [(0, [2, 2, 2, 2, 2]), (1, [1, 2, 2, 2, 2]), (3, [0.5, 1, 1.5, 2, 2])],
)
def test_beta_rises_evenly_and_stays(kl_warmup, expected):
    objective = evidence_bound(linear_vae(), beta=2.0, kl_warmup=kl_warmup)
    found = []
    for epoch in range(5):
        objective.begin_epoch(epoch, 1.0)
        found.append(objective.beta)
    assert found == expected


def test_validation_weighs_the_divergence_in_full_from_the_start():
    objective = evidence_bound(misled_vae(), beta=2.0, kl_warmup=9)
    before = objective.validation_loss(cells_of_table())
    objective.begin_epoch(0, 1.0)
    assert torch.equal(objective.validation_loss(cells_of_table()), before)


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
@OF_CELLS
@pytest.mark.parametrize(
    "options",
    [{}, {"n_particles": 3}, {"beta": 2.0}, {"free_bits": 0.5}],
    ids=str,
)
def test_gradients_of_the_bound_are_finite_differences(prior, make_cells, options):
    model = curved_vae(prior and prior())
    objective, cells = evidence_bound(model, **options), make_cells(5)

    def loss():
        objective.generator.manual_seed(1)
        return objective.training_loss(cells).mean()

    assert_gradients_are_finite_differences(model, loss)


def test_training_draws_come_from_the_generator():
    cells = cells_of_table()
    first, second, other = (
        evidence_bound(misled_vae(), seed).training_loss(cells) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_validation_draws_nothing():
    for objective in (evidence_bound(misled_vae()), reconstruction(autoencoder())):
        before = objective.generator.get_state()
        first = objective.validation_loss(cells_of_table())
        assert torch.equal(first, objective.validation_loss(cells_of_table()))
        assert torch.equal(objective.generator.get_state(), before)


# --------------------------------------------------------------------------- defence


def anchored_at(log_density):
    log_density = torch.as_tensor(log_density, dtype=torch.float64)
    return Cells(
        torch.zeros(len(log_density), N_FEATURES).double(), None, None, log_density
    )


@given(log_density=st.floats(-1e30, 1e3), anchor=st.floats(-1e12, 1e3))
@settings(max_examples=60, deadline=None)
def test_a_defended_density_never_falls_far_below_the_anchor(log_density, anchor):
    own = torch.full((1,), log_density, dtype=torch.float64)
    found = defended(own, anchored_at([anchor])).item()
    rounding = 1e-12 * (1 + abs(found))
    assert found >= anchor + math.log(DEFENCE) - rounding
    assert found >= log_density + math.log1p(-DEFENCE) - rounding
    assert found <= max(anchor, log_density) + rounding


def test_defence_leaves_the_anchors_own_density_as_it_is():
    cells = cells_of_table(anchored=True)
    assert_close(defended(cells.log_density, cells), cells.log_density)


def test_impossible_rows_fall_back_to_the_anchor_and_bend_no_weights():
    cells = cells_with_holes(anchored=True)
    log_density = torch.full((30,), -1e30, dtype=torch.float64, requires_grad=True)
    found = defended(log_density, cells)
    found.sum().backward()
    assert_close(found.detach(), cells.log_density + math.log(DEFENCE))
    assert not log_density.grad.any()


def test_a_defended_density_still_integrates_to_one():
    X = np.random.default_rng(0).normal(size=(30, 1))
    ppca = principal_components(X, 1).probabilistic()
    grid = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    anchor = ppca.log_density(grid[:, None].numpy(), np.ones((4001, 1), dtype=bool))
    narrow = gaussian_log_prob(grid[:, None], torch.tensor(2.0), torch.tensor(-3.0))
    density = defended(narrow, anchored_at(anchor)).exp()
    assert_allclose(torch.trapezoid(density, grid).item(), 1, rtol=1e-6)


def test_without_an_anchor_nothing_is_mixed_in():
    log_density = draws(30)
    assert defended(log_density, cells_of_table()) is log_density


@pytest.mark.parametrize("loss", ["training_loss", "validation_loss"])
@pytest.mark.parametrize(
    "options", [{}, {"n_particles": 3}, {"free_bits": 0.5}], ids=str
)
def test_bounds_are_defended_where_beta_is_one(loss, options):
    plain, cells = cells_with_holes(), cells_with_holes(anchored=True)
    alone, mixed, other, other_alone = (
        -getattr(evidence_bound(misled_vae(), beta=beta, **options), loss)(rows)
        for beta, rows in ((1.0, plain), (1.0, cells), (2.0, cells), (2.0, plain))
    )
    assert_close(mixed, defended(alone, cells))
    assert not torch.isclose(mixed, alone).all()
    assert torch.equal(other, other_alone)


@pytest.mark.parametrize("tight", [True, False])
def test_evidence_is_that_of_the_model_alone(tight):
    plain, cells = cells_with_holes(), cells_with_holes(anchored=True)
    points = normal_points(8, N_CODES)
    alone, found = (
        log_evidence(misled_vae(), c, points, tight=tight) for c in (plain, cells)
    )
    assert torch.equal(found, alone)
    assert not torch.isclose(found, defended(alone, cells))[1:].all()


# ---------------------------------------------------------------- quasi-random points


@pytest.mark.parametrize("n_points", [1, 7, 8, 100])
@pytest.mark.parametrize("n_components", [1, 3, 40])
def test_points_are_always_the_same_and_finite(n_points, n_components):
    points = normal_points(n_points, n_components)
    assert points.shape == (n_points, n_components)
    assert points.isfinite().all()
    assert len(points.unique(dim=0)) == n_points
    assert torch.equal(points, normal_points(n_points, n_components))


def test_points_have_the_moments_of_the_standard_normal():
    points = normal_points(1024, 3).numpy()
    assert_allclose(points.mean(axis=0), 0, atol=0.01)
    assert_allclose(np.cov(points.T), np.eye(3), atol=0.02)
    assert_allclose((points**4).mean(axis=0), 3, atol=0.1)


def test_more_points_keep_the_earlier_ones():
    assert torch.equal(normal_points(64, 3)[:10], normal_points(10, 3))


def test_seeded_dropout_makes_training_losses_repeatable():
    model = autoencoder()
    model.encoder = multilayer_perceptron(
        (4, 5, 2), "tanh", 0.5, generator(), starts_at_zero=False
    ).double()
    losses = []
    for seed in (1, 1, 2):
        objective = reconstruction(model, seed)
        seed_dropout(model, objective.generator)
        losses.append(objective.training_loss(cells_of_table()))
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
