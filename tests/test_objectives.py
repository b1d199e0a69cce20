"""Objectives against closed forms: probabilistic PCA is the VAE known exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import (
    N_CODES,
    N_FEATURES,
    OF_CELLS,
    WIDTHS,
    Affine,
    cells_of_table,
    cells_with_holes,
    curved_vae,
    draws,
    exact_log_density,
    generator,
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
from torch.testing import assert_close

from skae.model._pca import principal_components
from skae.network._autoencoders import Autoencoder
from skae.network._cells import Cells
from skae.network._layers import LinearPath, multilayer_perceptron, seed_dropout
from skae.network._losses import SquaredError
from skae.network._neighbors import neighbor_losses
from skae.network._normal import gaussian_kl, gaussian_log_prob
from skae.network._objectives import (
    DEFENCE,
    MOST_SIGNAL,
    Anchor,
    EvidenceBound,
    Reconstruction,
    defended,
)
from skae.network._priors import GaussianMixture


def repeated(cells, n_times):
    """Repeat the first row."""
    return cells.map(lambda t: t[:1].expand(n_times, *t.shape[1:]))


def evidence_bound(model, seed=0, **changes):
    options = {"beta": 1.0, "kl_warmup": 0, "free_bits": 0.0, "n_particles": 1}
    return EvidenceBound(model, generator(seed), **(options | changes))


def reconstruction(model, seed=0, **changes):
    rows = rows_of_table()
    options = {
        "noise_scale": None,
        "anneal": False,
        "masking": 0.0,
        "centre": torch.zeros(N_FEATURES).double(),
        "sample": (Cells(rows), torch.ones(len(rows)).double()),
        "legibility": 0.0,
        "neighborhood": 0.0,
    }
    return Reconstruction(model, generator(seed), **(options | changes))


def autoencoder(**options):
    encoder, decoder = (
        multilayer_perceptron(widths, "tanh", 0.0, generator(), starts_at_zero=False)
        for widths in ((4, 5, 2), (2, 5, 4))
    )
    return Autoencoder(encoder, decoder, SquaredError(), WIDTHS, **options).double()


def copying():
    """Make an autoencoder that returns what it sees: its loss is the corruption."""
    return Autoencoder(nn.Identity(), nn.Identity(), SquaredError(), WIDTHS)


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
    )
    loss = reconstruction(model).validation_loss(cells_of_table()).mean().item()
    discarded = start.noise_variance * (N_FEATURES - N_CODES) * 29 / 30
    assert_allclose(loss, discarded / N_FEATURES)


def test_training_and_validation_losses_agree_without_corruption():
    objective = reconstruction(autoencoder(sparsity=0.3))
    for cells in (cells_of_table(), cells_with_holes()):
        assert_close(objective.training_loss(cells), objective.validation_loss(cells))


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_the_loss_is_that_of_codes_of_which_a_share_is_zero(sparsity):
    model, rows = autoencoder(sparsity=sparsity), rows_of_table()
    cells = Cells(rows)
    objective = reconstruction(model)
    assert (model.latent(cells) == 0).double().mean() == sparsity
    expected = (model(rows) - rows).square().mean(dim=1)
    assert_close(objective.training_loss(cells), expected)
    assert_close(objective.validation_loss(cells), expected)


def test_the_share_of_zeros_holds_again_with_each_epoch():
    model, cells = autoencoder(sparsity=0.5), cells_of_table()
    objective = reconstruction(model)
    with torch.no_grad():
        model.encoder[0].weight.mul_(3)
    assert (model.latent(cells) == 0).double().mean() < 0.5
    objective.begin_epoch(0, 1.0)
    assert (model.latent(cells) == 0).double().mean() == 0.5


@pytest.mark.parametrize("make_cells", [cells_of_table, cells_with_holes])
def test_legibility_is_the_price_of_what_a_linear_reconstruction_moves(make_cells):
    start = principal_components(rows_of_table().numpy(), N_CODES)
    components, mean = torch.from_numpy(start.components), torch.from_numpy(start.mean)
    model, cells = autoencoder(), make_cells()
    model.encoder = LinearPath(
        components,
        -components @ mean,
        model.encoder,
        input_centre=mean,
        input_scale=torch.ones_like(mean),
        output_scale=torch.ones(N_CODES),
    )
    free, priced = (
        reconstruction(model, legibility=price).training_loss(cells)
        for price in (0.0, 0.7)
    )
    linear = (cells.values - mean) @ components.T
    moved = (model.encode(cells) - linear) @ components
    assert moved.abs().max() > 0.01
    assert_close(priced - free, 0.7 * moved.square().mean(dim=1))


def test_neighbours_weigh_in_the_loss_and_a_linear_code_is_then_no_aim():
    model, cells = autoencoder(), cells_of_table()
    alone, both = (
        reconstruction(model, neighborhood=weight, legibility=1.0).training_loss(cells)
        for weight in (0.0, 0.7)
    )
    near = neighbor_losses(model.encode(cells), cells.values)
    assert_close(both - alone, 0.7 * near)


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
    model.inputs = lambda cells: told.append(cells) or cells.values
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


def test_validation_sees_clean_rows_where_noise_falls():
    noise = torch.ones(N_FEATURES).double()
    objective = reconstruction(copying(), noise_scale=noise, anneal=True)
    assert not objective.validation_loss(cells_of_table()).any()
    assert objective.training_loss(cells_of_table()).all()


@pytest.mark.parametrize("masking", [0.0, 0.4])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_validation_judges_by_what_is_to_be_undone(scale, masking):
    noise = torch.full((N_FEATURES,), scale).double() if scale else None
    rows = torch.ones(3000, N_FEATURES).double()
    centre = torch.zeros(N_FEATURES).double()
    objective = reconstruction(
        copying(), noise_scale=noise, masking=masking, centre=centre
    )
    found = objective.validation_loss(Cells(rows))
    expected = masking + (1 - masking) * scale**2
    assert found.mean().item() == pytest.approx(expected, rel=0.05)
    objective.training_loss(Cells(rows))
    objective.begin_epoch(5, 0.1)
    assert torch.equal(objective.validation_loss(Cells(rows)), found)


def test_masks_judge_without_the_noise_that_falls():
    centre, rows = torch.zeros(N_FEATURES).double(), torch.ones(500, N_FEATURES)
    noise = torch.ones(N_FEATURES).double()
    falling, none = (
        reconstruction(copying(), masking=0.4, centre=centre, **options)
        for options in ({"noise_scale": noise, "anneal": True}, {})
    )
    cells = Cells(rows.double())
    assert torch.equal(falling.validation_loss(cells), none.validation_loss(cells))


def test_the_indicators_of_a_column_are_masked_together():
    model = Autoencoder(nn.Identity(), nn.Identity(), SquaredError(), (1, 3))
    centre, rows = torch.zeros(4).double(), torch.ones(2000, 4).double()
    objective = reconstruction(model, masking=0.5, centre=centre)
    hidden = (4 * objective.training_loss(Cells(rows))).round().int()
    assert hidden.unique().tolist() == [0, 1, 3, 4]


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
    objective = reconstruction(model, noise_scale=noise, masking=0.3, legibility=0.5)

    def loss():
        objective.generator.manual_seed(1)
        return objective.training_loss(cells).mean()

    assert_gradients_are_finite_differences(model, loss)


# ------------------------------------------------------------------- bounds, exactly


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


def test_sampled_and_closed_divergences_agree_on_average():
    single = GaussianMixture(1, N_CODES)
    row = cells_of_table(1)
    sampled, error = mean_bound(misled_vae(prior=single), row, n_draws=20_000)
    closed, other = mean_bound(misled_vae(), row, n_draws=20_000, seed=1)
    assert abs(sampled - closed) < 4 * math.hypot(error, other)


# ------------------------------------------------------------------ bounds with holes


@pytest.mark.parametrize("loss", ["training_loss", "validation_loss"])
def test_bounds_of_seen_cells_are_exact_for_one_component(loss):
    """The posterior given any cells is then a diagonal Gaussian."""
    objective = evidence_bound(linear_vae(n_codes=1), n_particles=3)
    found = -getattr(objective, loss)(cells_with_holes(n_codes=1)).detach()
    assert_close(found, cells_with_holes(n_codes=1, anchored=True).log_density)


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
        lambda: reconstruction(blind(autoencoder())),
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
def test_free_bits_are_what_each_component_lacks_of_them(prior):
    model, cells = misled_vae(prior=prior and prior()), cells_with_holes()
    said = gaussian_kl(*model.posterior(cells), *model.prior.moments())
    lacking = {free: (free - said).clamp(min=0).sum(dim=1) for free in (0.3, 1e3)}
    assert ((lacking[0.3] > 0) & (lacking[0.3] < 0.3 * N_CODES)).any()
    for loss in ("training_loss", "validation_loss"):
        for free, expected in lacking.items():
            found, plain = (
                getattr(evidence_bound(model, n_particles=3, free_bits=bits), loss)
                for bits in (free, 1e-300)
            )
            assert_close(found(cells) - plain(cells), expected)


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


# ----------------------------------------------------------------- parts of a batch


def objectives():
    corrupted = {"noise_scale": torch.full((N_FEATURES,), 0.3).double()}
    yield reconstruction(autoencoder(), **corrupted, masking=0.3), cells_of_table
    yield reconstruction(autoencoder(), **corrupted), cells_with_holes
    yield reconstruction(autoencoder(), neighborhood=0.7), cells_with_holes
    yield evidence_bound(curved_vae(), n_particles=3), cells_of_table
    yield evidence_bound(curved_vae(), beta=2.0), cells_with_holes


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("kind", ["training_loss", "validation_loss"])
def test_losses_of_own_rows_are_those_that_they_have_among_all(case, kind):
    objective, make_cells = list(objectives())[case]
    loss, cells = getattr(objective, kind), make_cells()
    before = objective.generator.get_state()
    whole = loss(cells)
    after = objective.generator.get_state()
    for own in (slice(0, 12), slice(12, 30)):
        objective.generator.set_state(before)
        assert_close(loss(cells, own), whole[own])
        assert torch.equal(objective.generator.get_state(), after)


# -------------------------------------------------------------------------- anchors


def test_departures_from_the_start_cost_what_a_linear_reconstruction_loses():
    ppca, cells, moved = ppca_of_table(N_CODES), cells_of_table(), linear_vae()
    departure = torch.tensor([0.0, -0.2]).double()  # where there is noise enough
    moved.encoder.bias.data[:N_CODES] += departure
    anchor = Anchor.of(linear_vae().encoder, N_FEATURES, 0.5)
    free, priced = (evidence_bound(moved, anchor=a) for a in (None, anchor))
    difference = priced.training_loss(cells) - free.training_loss(cells)
    loadings = torch.from_numpy(ppca.loadings)
    lost = (loadings @ departure).square().sum() / ppca.noise_variance / 2
    assert_close(difference, 0.5 * lost.expand(len(cells)))
    assert_close(priced.validation_loss(cells), free.validation_loss(cells))


def test_the_start_itself_costs_nothing():
    cells, model = cells_of_table(), linear_vae()
    anchor = Anchor.of(model.encoder, N_FEATURES, 1.0)
    priced = evidence_bound(model, anchor=anchor).training_loss(cells)
    assert_close(priced, evidence_bound(model).training_loss(cells))


def test_no_departure_costs_more_than_a_noise_of_a_tenth():
    cells, model = cells_of_table(), linear_vae()
    codes = model.latent(cells).detach()
    model.encoder.bias.data[N_CODES:] = -20.0  # logarithms of variances
    anchor = Anchor.of(model.encoder, N_FEATURES, 1.0)
    price = anchor.price(cells.values, codes + 1)
    assert_close(price, torch.full_like(price, N_CODES * MOST_SIGNAL / 2))
