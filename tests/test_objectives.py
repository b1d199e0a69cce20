"""Objectives against closed forms: probabilistic PCA is the VAE known exactly."""

from __future__ import annotations

import copy
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
    Gaussian,
    GaussianMixture,
    LinearGaussian,
    SquaredError,
    StandardNormal,
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
    log_evidence,
    normal_points,
)

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


class Affine(nn.Module):
    """A map that is known exactly."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight).clone())
        self.bias = nn.Parameter(torch.as_tensor(bias).clone())

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def linear_vae(*, anchored=False, prior=None):
    """Make probabilistic PCA of the table as a VAE."""
    start = principal_components(rows_of_table().numpy(), N_CODES)
    ppca = start.posterior()
    mean, loadings, projection = map(
        torch.from_numpy, (start.mean, ppca.loadings, ppca.projection)
    )
    log_variances = torch.from_numpy(ppca.variances).log()
    spread = torch.full_like(mean, ppca.noise_variance**0.5)
    anchor = LinearGaussian(
        mean, projection, log_variances, loadings, ppca.noise_variance
    )
    return VariationalAutoencoder(
        Affine(
            torch.cat([projection, torch.zeros_like(projection)]),
            torch.cat([-projection @ mean, log_variances]),
        ),
        Affine(loadings, mean),
        Gaussian(spread, torch.zeros_like(spread)),
        prior or StandardNormal(N_CODES).double(),
        anchor if anchored else None,
    )


def misled_vae(**options):
    """Make a VAE whose posterior is off, so that its bounds are not tight."""
    model = linear_vae(**options)
    bias = model.encoder.bias.data
    bias += torch.tensor([0.2, -0.2, 0.6, 0.5])  # means, then log-variances
    return model


def curved_vae(prior=None, *, anchored=False):
    model = linear_vae(anchored=anchored, prior=prior)
    for name, widths in {"encoder": (4, 5, 4), "decoder": (2, 5, 4)}.items():
        network = multilayer_perceptron(
            widths, "tanh", 0.0, generator(), starts_at_zero=False
        )
        setattr(model, name, network.double())
    return model


def mixture():
    prior = GaussianMixture(3, N_CODES, generator())
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
    return Autoencoder(encoder, decoder, SquaredError()).double()


def copying():
    """Make an autoencoder that returns what it sees: its loss is the corruption."""
    return Autoencoder(nn.Identity(), nn.Identity(), SquaredError())


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
    )
    loss = reconstruction(model).validation_loss(rows_of_table()).mean().item()
    discarded = start.noise_variance * (N_FEATURES - N_CODES) * 29 / 30
    assert_allclose(loss, discarded / N_FEATURES)


def test_training_and_validation_losses_agree_without_corruption():
    objective, rows = reconstruction(autoencoder(), sparsity=0.3), rows_of_table()
    assert_close(objective.training_loss(rows), objective.validation_loss(rows))


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_sparsity_adds_the_mean_absolute_code(sparsity):
    model, rows = autoencoder(), rows_of_table()
    expected = (model(rows) - rows).square().mean(dim=1)
    expected = expected + sparsity * model.code(rows).abs().mean(dim=1)
    objective = reconstruction(model, sparsity=sparsity)
    assert_close(objective.training_loss(rows), expected)
    assert_close(objective.validation_loss(rows), expected)


def test_noise_has_the_variance_asked_for_in_each_column():
    scale = torch.tensor([0.0, 0.1, 1.0, 3.0]).double()
    seen = []
    model = copying()
    model.encoder.register_forward_hook(lambda module, args, output: seen.append(args))
    rows = draws(4000, N_FEATURES)
    loss = reconstruction(model, 1, noise_scale=scale).training_loss(rows)
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
    found = objective.training_loss(rows)
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
    assert not objective.validation_loss(rows_of_table()).any()
    assert objective.training_loss(rows_of_table()).all()


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_annealed_noise_falls_with_the_learning_rate(rate):
    noise = torch.ones(N_FEATURES).double()
    rows = rows_of_table(2000)
    annealed, steady = (
        reconstruction(copying(), noise_scale=noise, anneal=anneal)
        for anneal in (True, False)
    )
    full = annealed.training_loss(rows)
    annealed.generator.manual_seed(0)
    for objective in (annealed, steady):
        objective.begin_epoch(0, 0.5)
        objective.begin_epoch(7, rate)
    assert_close(annealed.training_loss(rows), rate**2 * full)
    assert_close(steady.training_loss(rows), full)


def test_gradients_of_the_reconstruction_are_finite_differences():
    model, rows = autoencoder(), rows_of_table(5)
    noise = torch.ones(N_FEATURES).double()
    objective = reconstruction(model, noise_scale=noise, masking=0.3, sparsity=0.1)

    def loss():
        objective.generator.manual_seed(1)
        return objective.training_loss(rows).mean()

    assert_gradients_are_finite_differences(model, loss)


# ---------------------------------------------------------------- evidence, exactly


@pytest.mark.parametrize("n_points", [1, 3, 16])
def test_log_evidence_of_probabilistic_pca_is_exact(n_points):
    rows = rows_of_table(seed=1)
    found = log_evidence(linear_vae(), rows, normal_points(n_points, N_CODES))
    assert_close(found.detach(), exact_log_density(rows))


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("n_particles", [2, 5])
def test_training_loss_of_probabilistic_pca_is_exact_with_particles(
    n_particles, anchored
):
    rows = rows_of_table(seed=1)
    objective = evidence_bound(linear_vae(anchored=anchored), n_particles=n_particles)
    assert_close(-objective.training_loss(rows).detach(), exact_log_density(rows))


@pytest.mark.parametrize("anchored", [True, False])
def test_validation_loss_of_probabilistic_pca_is_exact(anchored):
    rows = rows_of_table(seed=1)
    objective = evidence_bound(linear_vae(anchored=anchored))
    assert_close(-objective.validation_loss(rows).detach(), exact_log_density(rows))


def mean_bound(model, row, n_draws=8000, **options):
    rows = row.expand(n_draws, -1)
    with torch.no_grad():
        bound = -evidence_bound(model, **options).training_loss(rows)
    return bound.mean().item(), bound.std().item() / n_draws**0.5


def test_elbo_of_probabilistic_pca_is_its_log_density_on_average():
    row = rows_of_table()[:1]
    bound, error = mean_bound(linear_vae(), row)
    assert abs(bound - exact_log_density(row).item()) < 4 * error


def test_elbo_falls_short_by_the_divergence_from_the_true_posterior():
    row, model = rows_of_table()[:1], misled_vae()
    bound, error = mean_bound(model, row)
    posteriors = (*model.posterior(row), *linear_vae().posterior(row))
    gap = gaussian_kl(*posteriors).sum().item()
    assert gap > 0.2
    assert abs(bound + gap - exact_log_density(row).item()) < 4 * error


def test_particles_tighten_the_bound_from_below():
    row = rows_of_table()[:1]
    bounds = [mean_bound(misled_vae(), row, n_particles=k) for k in (1, 2, 5, 30)]
    for (low, low_error), (high, high_error) in itertools.pairwise(bounds):
        assert high - low > 2 * math.hypot(low_error, high_error)
    last, error = bounds[-1]
    assert last < exact_log_density(row).item() + 3 * error


def evidence_at_random_points(n_points, n_sets=500):
    """Return the mean of the estimate over sets of points, and its error."""
    model, row = misled_vae(), rows_of_table()[:1]
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
    row = rows_of_table()[:1]
    found = log_evidence(misled_vae(), row, normal_points(1024, N_CODES)).item()
    exact = exact_log_density(row).item()
    _, error = evidence_at_random_points(1024, n_sets=50)
    assert abs(found - exact) < 50**0.5 * error
    assert_allclose(found, exact, atol=0.02)


def test_log_evidence_is_the_logarithm_of_the_mean_importance_weight():
    model, rows, points = misled_vae(), rows_of_table(5), draws(7, N_CODES, seed=3)
    mean, log_variance = model.posterior(rows)
    total = torch.zeros(5).double()
    for point in points:
        z = mean + point * (0.5 * log_variance).exp()
        joint = model.loss.log_prob(model.decoder(z), rows) + model.prior.log_prob(z)
        total += (joint - gaussian_log_prob(z, mean, log_variance)).exp()
    assert_close(log_evidence(model, rows, points), (total / 7).log())


def test_log_evidence_of_a_row_depends_on_no_other_row():
    model, rows = curved_vae(mixture(), anchored=True), rows_of_table()
    points = normal_points(8, N_CODES)
    order = torch.arange(30).flip(0)
    together = log_evidence(model, rows, points)
    assert_close(log_evidence(model, rows[order], points), together[order])
    assert_close(log_evidence(model, rows[7:8], points), together[7:8])


def test_a_mixture_of_one_standard_part_is_the_standard_prior():
    single = GaussianMixture(1, N_CODES, generator())
    single.means.data.zero_()
    rows, points = rows_of_table(), normal_points(8, N_CODES)
    found = log_evidence(misled_vae(prior=single), rows, points)
    assert_close(found, log_evidence(misled_vae(), rows, points))


def test_sampled_and_closed_divergences_agree_on_average():
    single = GaussianMixture(1, N_CODES, generator())
    single.means.data.zero_()
    row = rows_of_table()[:1]
    sampled, error = mean_bound(misled_vae(prior=single), row, n_draws=20_000)
    closed, other = mean_bound(misled_vae(), row, n_draws=20_000, seed=1)
    assert abs(sampled - closed) < 4 * math.hypot(error, other)


# ------------------------------------------------------------- beta, free bits, warm-up


def closed_form_kl(model, rows):
    return gaussian_kl(*model.posterior(rows), *model.prior.moments())


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_divergence(beta):
    model, rows = misled_vae(), rows_of_table()
    weighed, plain = (
        evidence_bound(model, beta=b).training_loss(rows) for b in (beta, 1.0)
    )
    assert_close(weighed - plain, (beta - 1) * closed_form_kl(model, rows).sum(dim=1))


@pytest.mark.parametrize("n_particles", [1, 3])
def test_beta_weighs_the_divergence_of_validation_too(n_particles):
    model, rows = misled_vae(), rows_of_table()
    strong, weak = (
        evidence_bound(model, beta=b, n_particles=n_particles).validation_loss(rows)
        for b in (4.0, 2.0)
    )
    assert_close(strong - weak, 2 * closed_form_kl(model, rows).sum(dim=1))


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
def test_with_another_beta_particles_only_average(prior):
    row, model = rows_of_table()[:1], misled_vae(prior=prior and prior())
    one, error = mean_bound(model, row, beta=2.0)
    several, other = mean_bound(model, row, beta=2.0, n_particles=5, seed=1)
    assert other < 0.6 * error
    assert abs(one - several) < 4 * math.hypot(error, other)


def test_free_bits_replace_what_a_component_says_below_them():
    model, rows = misled_vae(), rows_of_table()
    kl = closed_form_kl(model, rows)
    free = kl.median().item()
    free_loss, plain_loss = (
        evidence_bound(model, free_bits=bits).training_loss(rows) for bits in (free, 0)
    )
    added = (free - kl).clamp(min=0).sum(dim=1)
    assert added.any()
    assert_close(free_loss - plain_loss, added)


def test_enough_free_bits_leave_the_likelihood_alone():
    model, rows = misled_vae(), rows_of_table()
    free_loss = evidence_bound(model, free_bits=1e3).training_loss(rows)
    likelihood_loss = evidence_bound(model, beta=0.0).training_loss(rows)
    assert_close(free_loss, likelihood_loss + 1e3 * N_CODES)


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
def test_free_bits_hold_for_particles_and_in_validation(prior):
    model, rows = misled_vae(prior=prior and prior()), rows_of_table()
    free, likelihood = (
        evidence_bound(model, n_particles=3, **options)
        for options in ({"free_bits": 1e3}, {"beta": 0.0})
    )
    free_nats = 1e3 * N_CODES
    for loss in ("training_loss", "validation_loss"):
        found, expected = getattr(free, loss)(rows), getattr(likelihood, loss)(rows)
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
    before = objective.validation_loss(rows_of_table())
    objective.begin_epoch(0, 1.0)
    assert torch.equal(objective.validation_loss(rows_of_table()), before)


@pytest.mark.parametrize("prior", [None, mixture], ids=["normal", "mixture"])
@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"n_particles": 3}, {"beta": 2.0}, {"free_bits": 0.5}],
    ids=str,
)
def test_gradients_of_the_bound_are_finite_differences(prior, anchored, options):
    model = curved_vae(prior and prior(), anchored=anchored)
    objective, rows = evidence_bound(model, **options), rows_of_table(5)

    def loss():
        objective.generator.manual_seed(1)
        return objective.training_loss(rows).mean()

    assert_gradients_are_finite_differences(model, loss)


def test_training_draws_come_from_the_generator():
    rows = rows_of_table()
    first, second, other = (
        evidence_bound(misled_vae(), seed).training_loss(rows) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_validation_draws_nothing():
    for objective in (evidence_bound(misled_vae()), reconstruction(autoencoder())):
        before = objective.generator.get_state()
        first = objective.validation_loss(rows_of_table())
        assert torch.equal(first, objective.validation_loss(rows_of_table()))
        assert torch.equal(objective.generator.get_state(), before)


# --------------------------------------------------------------------------- defence


@given(log_density=st.floats(-1e30, 1e3), distance=st.floats(0, 1e6))
@settings(max_examples=60, deadline=None)
def test_a_defended_density_never_falls_far_below_the_anchor(log_density, distance):
    model = linear_vae(anchored=True)
    rows = torch.full((1, N_FEATURES), distance, dtype=torch.float64)
    own = torch.full((1,), log_density, dtype=torch.float64)
    found = defended(model, rows, own, 1.0).item()
    anchor = model.anchor.log_prob(rows).item()
    rounding = 1e-12 * (1 + abs(found))
    assert found >= anchor + math.log(DEFENCE) - rounding
    assert found >= log_density + math.log1p(-DEFENCE) - rounding
    assert found <= max(anchor, log_density) + rounding


def test_defence_leaves_the_anchors_own_density_as_it_is():
    model, rows = linear_vae(anchored=True), rows_of_table()
    anchor = model.anchor.log_prob(rows)
    assert_close(defended(model, rows, anchor, 1.0), anchor)


def test_impossible_rows_fall_back_to_the_anchor_and_bend_no_weights():
    model, rows = linear_vae(anchored=True), rows_of_table()
    log_density = torch.full((30,), -1e30, dtype=torch.float64, requires_grad=True)
    found = defended(model, rows, log_density, 1.0)
    found.sum().backward()
    assert_close(found.detach(), model.anchor.log_prob(rows) + math.log(DEFENCE))
    assert not log_density.grad.any()


def test_a_defended_density_still_integrates_to_one():
    X = np.random.default_rng(0).normal(size=(30, 1))
    start = principal_components(X, 1)
    ppca = start.posterior()
    model = copy.copy(linear_vae())
    model.anchor = LinearGaussian(
        torch.from_numpy(start.mean),
        torch.from_numpy(ppca.projection),
        torch.from_numpy(ppca.variances).log(),
        torch.from_numpy(ppca.loadings),
        ppca.noise_variance,
    )
    grid = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    narrow = gaussian_log_prob(grid[:, None], torch.tensor(2.0), torch.tensor(-3.0))
    density = defended(model, grid[:, None], narrow, 1.0).exp()
    assert_allclose(torch.trapezoid(density, grid).item(), 1, rtol=1e-6)


@pytest.mark.parametrize(("anchored", "beta"), [(False, 1.0), (True, 2.0)])
def test_without_an_anchor_or_with_another_beta_nothing_is_mixed_in(anchored, beta):
    model, rows = linear_vae(anchored=anchored), rows_of_table()
    log_density = draws(30)
    assert torch.equal(defended(model, rows, log_density, beta), log_density)


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
        losses.append(objective.training_loss(rows_of_table()))
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
