"""Networks around a linear model, and whole autoencoders at their start."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from models import draws, generator
from networks import perceptron
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from skae._schema import KINDS, Block
from skae.model._pca import principal_components
from skae.network._autoencoders import Autoencoder, VariationalAutoencoder
from skae.network._build import (
    NOISE_FLOOR,
    RULED,
    LinearStart,
    around_linear_model,
    build,
    noise_scales,
    usual_scales,
)
from skae.network._cells import Cells
from skae.network._design import Design
from skae.network._layers import LinearPath
from skae.network._likelihoods import Gaussian, Poisson
from skae.network._losses import SquaredError
from skae.network._outputs import Mixed
from skae.network._priors import GaussianMixture, StandardNormal

# ------------------------------------------------------------ around a linear model

PPCA_TABLE = np.random.default_rng(0).normal(size=(40, 4)) @ [
    [1.0, 0.5, 0.0, 2.0],
    [0.0, 1.0, 0.3, 0.0],
    [0.2, 0.0, 0.4, 0.1],
    [0.0, 0.1, 0.0, 0.3],
] + [1.0, 2.0, 3.0, 4.0]


def around(
    output=None,
    *,
    n_flags=0,
    with_variances=False,
    starts_at_zero=True,
    code_scales=None,
    **more,
):
    """Make networks around probabilistic PCA of two components."""
    pca = principal_components(PPCA_TABLE, 2)
    ppca = pca.probabilistic()
    log_variances = torch.from_numpy(ppca.variances).log() if with_variances else None
    output = output or SquaredError()
    networks = (
        perceptron(4 + n_flags, 5, 4 if with_variances else 2, seed=3),
        perceptron(2, 5, 4 + output.n_extra, seed=4),
    )
    if starts_at_zero:
        for network in networks:
            network[-1].weight.data.zero_()
            network[-1].bias.data.zero_()
    start = LinearStart(
        mean=torch.from_numpy(ppca.mean),
        column_scales=torch.from_numpy(pca.column_scales),
        projection=torch.from_numpy(ppca.projection),
        loadings=torch.from_numpy(ppca.loadings),
        code_scales=torch.ones(2).double() if code_scales is None else code_scales,
        log_variances=log_variances,
        noise_variance=ppca.noise_variance,
    )
    paths = around_linear_model(*networks, output, start, n_flags=n_flags, **more)
    return paths, ppca


def test_networks_around_a_linear_model_start_as_that_model():
    (encoder, decoder), ppca = around()
    x, z = draws(6, 4), draws(6, 2)
    codes = (x.numpy() - ppca.mean) @ ppca.projection.T
    assert_close(encoder(x).detach(), torch.from_numpy(codes))
    rows = ppca.mean + z.numpy() @ ppca.loadings.T
    assert_close(decoder(z).detach(), torch.from_numpy(rows))


def test_log_variances_are_constant_at_the_start_and_stand_beside_the_codes():
    (encoder, _), ppca = around(with_variances=True)
    (codes_alone, _), _ = around()
    mean, log_variance = encoder(draws(6, 4)).chunk(2, dim=1)
    assert_close(mean, codes_alone(draws(6, 4)))
    expected = torch.from_numpy(np.log(ppca.variances))
    assert_close(log_variance.detach(), expected.expand(6, 2))
    assert len(encoder.weight) == 2


def test_a_decoder_of_rates_starts_as_the_tangent_of_the_linear_model():
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    counts = Poisson(torch.full((4,), 20.0).double(), scale)
    (_, decoder), ppca = around(counts)
    for step, bound in ((1e-2, 3e-4), (1e-4, 3e-8)):
        z = step * draws(6, 2)
        rows = torch.from_numpy(ppca.mean + z.numpy() @ ppca.loadings.T)
        assert (counts.mean(decoder(z)) - rows).abs().max() < bound


def test_a_decoder_of_rates_gives_corrections_in_units_of_each_column():
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    counts = Poisson(torch.full((4,), 20.0).double(), scale)
    (_, decoder), ppca = around(counts, starts_at_zero=False)
    tangent, slope = counts.tangent(torch.from_numpy(ppca.mean))
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    z = draws(6, 2)
    moved = z @ torch.from_numpy(ppca.loadings).T + scales * decoder.network(z)
    assert_close(decoder(z), tangent + slope * moved)


@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_outputs_after_those_of_the_columns_are_the_networks_as_they_are(
    starts_at_zero,
):
    spread = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    noisy = Gaussian(spread, 0.1 * spread)
    (_, decoder), ppca = around(noisy, starts_at_zero=starts_at_zero)
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    z = draws(6, 2)
    correction = decoder.network(z)
    rows = torch.from_numpy(ppca.mean + z.numpy() @ ppca.loadings.T)
    assert_close(decoder(z)[:, :4], rows + scales * correction[:, :4])
    assert torch.equal(decoder(z)[:, 4:], correction[:, 4:])
    assert correction.any() != starts_at_zero
    assert len(decoder.weight) == 4


def test_flags_have_no_linear_path_but_reach_the_network():
    (encoder, _), _ = around(n_flags=2)
    (without, _), _ = around()
    seen = []
    encoder.network.register_forward_hook(
        lambda module, args, output: seen.append(args)
    )
    x, flags = draws(6, 4), (draws(6, 2) > 0).double()
    assert_close(encoder(torch.cat([x, flags], dim=1)), without(x))
    assert_close(seen[0][0][:, 4:], 2 * flags)


@pytest.mark.parametrize("trainable", [True, False])
def test_the_linear_model_is_trained_on_request(trainable):
    paths, _ = around(trainable=trainable)
    for path in paths:
        assert path.weight.requires_grad == trainable
        assert path.bias.requires_grad


def test_networks_around_a_linear_model_see_and_give_standardised_values():
    code_scales = torch.tensor([2.0, 0.5]).double()
    (encoder, decoder), ppca = around(starts_at_zero=False, code_scales=code_scales)
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    mean = torch.from_numpy(ppca.mean)
    x, z = draws(6, 4), draws(6, 2)
    codes = (x - mean) @ torch.from_numpy(ppca.projection).T
    codes = codes + code_scales * encoder.network((x - mean) / scales)
    assert_close(encoder(x), codes)
    rows = mean + z @ torch.from_numpy(ppca.loadings).T
    assert_close(decoder(z), rows + scales * decoder.network(z / code_scales))


# ----------------------------------------------------- whole autoencoders at the start


N_ROWS = 40


def block(kind, *columns, resolution=0.0, quartile_deviation=1.0):
    """Make a block of standardised numbers that have few ties."""
    width = len(columns)
    return Block(
        KINDS[kind],
        (1,) * width,
        np.zeros(width),
        np.ones(width),
        np.full(width, resolution),
        np.full(width, quartile_deviation),
    )


NUMBERS = (block("squared_error", 0, 1, 2, 3),)
GAUSSIAN = (block("gaussian", 0, 1, 2, 3),)
CHANCES = np.array([0.5, 0.3, 0.2])
WITH_LEVELS = (
    block("gaussian", 0, 1),
    Block(KINDS["categorical"], (3,), CHANCES, np.full(3, 0.8)),
)


def design_of(blocks, **changes):
    options = {
        "n_components": 2,
        "hidden_layer_sizes": (5, 3),
        "activation": "tanh",
        "dropout": 0.0,
        "linear_path": True,
    }
    return Design(blocks, **(options | changes))


def start_of(X, *, variational):
    pca = principal_components(X, 2)
    ppca = pca.probabilistic()
    model = ppca if variational else None
    code_scales = np.ones(2) if variational else pca.code_scales()
    projection = model.projection if variational else pca.components
    loadings = model.loadings if variational else pca.components.T
    log_variances = np.log(ppca.variances) if variational else None
    return LinearStart(
        mean=torch.from_numpy(pca.mean),
        column_scales=torch.from_numpy(pca.column_scales),
        projection=torch.from_numpy(projection),
        loadings=torch.from_numpy(loadings),
        code_scales=torch.from_numpy(code_scales),
        log_variances=None if log_variances is None else torch.tensor(log_variances),
        noise_variance=pca.noise_variance,
    )


def built(blocks, X, seed=0, **changes):
    design = design_of(blocks, **changes)
    start = start_of(X, variational=design.is_variational)
    return build(design, start, generator(seed)), start


def test_an_autoencoder_starts_as_pca():
    module, start = built(NUMBERS, PPCA_TABLE)
    assert type(module) is Autoencoder
    x = torch.from_numpy(PPCA_TABLE)
    codes = (x - start.mean) @ start.projection.T
    assert_close(module.latent(Cells(x)).detach(), codes)
    assert_close(module(x).detach(), start.mean + codes @ start.loadings.T)


def test_a_variational_autoencoder_starts_as_probabilistic_pca():
    module, start = built(GAUSSIAN, PPCA_TABLE, is_variational=True)
    assert type(module) is VariationalAutoencoder
    x, z = torch.from_numpy(PPCA_TABLE), draws(6, 2)
    mean, log_variance = module.posterior(Cells(x))
    assert_close(mean.detach(), (x - start.mean) @ start.projection.T)
    assert_close(log_variance.detach(), start.log_variances.expand(N_ROWS, 2))
    assert_close(module.decoded(z).detach(), start.mean + z @ start.loadings.T)
    noise = module.loss.variance(module.decoder(z)).detach()
    assert_close(noise, torch.full_like(noise, start.noise_variance))


@pytest.mark.parametrize("is_variational", [True, False])
def test_an_autoencoder_is_built_in_double_precision_on_the_cpu(is_variational):
    blocks = GAUSSIAN if is_variational else NUMBERS
    module, _ = built(blocks, PPCA_TABLE, is_variational=is_variational)
    state = [t for t in module.state_dict().values() if t.is_floating_point()]
    assert {t.dtype for t in state} == {torch.float64}
    assert {t.device.type for t in state} == {"cpu"}


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("is_variational", [True, False])
def test_the_same_generator_builds_the_same_weights(is_variational, linear_path):
    blocks = GAUSSIAN if is_variational else NUMBERS
    options = {"is_variational": is_variational, "linear_path": linear_path}
    one, two, other = (
        built(blocks, PPCA_TABLE, seed, **options)[0].state_dict() for seed in (1, 1, 2)
    )
    assert one.keys() == two.keys() == other.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("is_variational", [True, False])
def test_without_a_linear_path_there_is_only_the_network(is_variational):
    blocks = GAUSSIAN if is_variational else NUMBERS
    module, _ = built(
        blocks, PPCA_TABLE, is_variational=is_variational, linear_path=False
    )
    assert not any(isinstance(m, LinearPath) for m in module.modules())
    x = torch.from_numpy(PPCA_TABLE)
    assert len(module(x).unique(dim=0)) == N_ROWS


@pytest.mark.parametrize("is_variational", [True, False])
def test_only_a_variational_linear_path_is_trained(is_variational):
    blocks = GAUSSIAN if is_variational else NUMBERS
    module, _ = built(blocks, PPCA_TABLE, is_variational=is_variational)
    for path in (module.encoder, module.decoder):
        assert path.weight.requires_grad == is_variational


def test_the_prior_is_a_mixture_of_as_many_parts_as_are_asked_for():
    plain, _ = built(GAUSSIAN, PPCA_TABLE, is_variational=True)
    assert type(plain.prior) is StandardNormal
    options = {"is_variational": True, "n_prior_components": 3}
    module, _ = built(GAUSSIAN, PPCA_TABLE, **options)
    assert type(module.prior) is GaussianMixture
    assert module.prior.means.shape == (3, 2)


@pytest.mark.parametrize("is_variational", [True, False])
def test_holes_of_incomplete_columns_are_inputs_that_change_nothing_at_the_start(
    is_variational,
):
    blocks = GAUSSIAN if is_variational else NUMBERS
    options = {"is_variational": is_variational}
    whole, _ = built(blocks, PPCA_TABLE, **options)
    module, _ = built(blocks, PPCA_TABLE, incomplete=(0, 2), **options)
    x = torch.from_numpy(PPCA_TABLE)
    seen = (draws(N_ROWS, 4, seed=3) > 0).double()
    assert module.encoder.weight.shape[1] == 6
    found = module.encode(Cells(x, seen))
    assert_close(found, whole.encode(Cells(x)))


def test_an_output_is_made_for_every_block():
    X = np.random.default_rng(3).normal(size=(N_ROWS, 5))
    module, _ = built(WITH_LEVELS, X, is_variational=True)
    assert isinstance(module.loss, Mixed)
    assert module.loss.widths == [2, 3]
    output = module.decoder(draws(6, 2))
    assert output.shape == (6, 5 + 2)  # two numbers have a spread
    assert module.loss.per_cell(output, draws(6, 5)).shape == (6, 3)


# -------------------------------------------------------- usual and smallest deviations


def scaled(kind, **values):
    return dataclasses.replace(
        block(kind, *range(4)),
        **{name: np.array(column) for name, column in values.items()},
    )


def test_a_deviation_that_a_few_rows_rule_gives_way_to_that_of_the_quartiles():
    deviation = [1.0, 1.0, 0.0, 1.0]
    numbers = scaled("gaussian", quartile_deviation=deviation)
    scales = np.array([1.0, 1.01 * RULED, 7.0, RULED])
    assert_array_equal(usual_scales((numbers,), scales), [1.0, 1.0, 7.0, RULED])


def test_corrections_of_a_column_that_a_few_rows_rule_are_in_units_of_the_others():
    """One row at a thousand deviations would make all others alike."""
    X = PPCA_TABLE.copy()
    X[0, 1] += 1e4
    module, start = built(GAUSSIAN, X, is_variational=True)
    scales = start.column_scales.clone()
    assert scales[1] > 1e3
    scales[1] = 1.0  # by the quartiles
    assert_close(module.decoder.output_scale[:4], scales)
    assert_close(module.encoder.input_factor, 1 / scales)


def test_levels_keep_their_deviations():
    levels = Block(KINDS["categorical"], (3,), CHANCES, np.full(3, 0.8))
    scales = np.array([100.0, 100.0, 100.0, 100.0, 9.0, 9.0, 9.0])
    found = usual_scales((block("gaussian", *range(4)), levels), scales)
    assert_array_equal(found, [1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0])


@pytest.mark.parametrize("noise", [0.3, None])
def test_noise_starts_as_that_of_the_linear_model_or_as_the_column(noise):
    scales = np.array([1.0, 2.0, 0.5, 4.0])
    start, floor = noise_scales(scaled("gaussian"), scales, noise)
    assert_array_equal(start, scales if noise is None else np.full(4, noise))
    assert_allclose(floor, NOISE_FLOOR * scales)


def test_noise_cannot_fall_below_the_rounding_of_a_column():
    resolution = [0.0, 1e-6, 0.5, 1.0]
    numbers = scaled("gaussian", resolution=resolution)
    _, floor = noise_scales(numbers, np.ones(4), 0.3)
    uniform = np.array(resolution) / np.sqrt(12)  # deviation of what rounding drops
    assert_allclose(floor, [NOISE_FLOOR, NOISE_FLOOR, *uniform[2:]])


@pytest.mark.parametrize(("noise", "kept"), [(0.3, 0.3), (None, 1.0)])
def test_the_noise_of_a_constant_column_stays_where_it_starts(noise, kept):
    scales = np.array([1.0, 0.0, 1.0, 1.0])
    start, floor = noise_scales(scaled("gaussian"), scales, noise)
    assert start[1] == floor[1] == kept
    assert (floor[[0, 2, 3]] < start[[0, 2, 3]]).all()


def test_levels_have_no_noise_to_learn():
    levels = Block(KINDS["categorical"], (3,), CHANCES, np.full(3, 0.8))
    start, floor = noise_scales(levels, np.array([0.2, 0.3, 0.4]), 0.1)
    assert_array_equal(start, [0.2, 0.3, 0.4])
    assert_array_equal(floor, 0)


def test_scales_are_left_as_they_were():
    scales = np.array([1.0, 0.0, 9.0, 1.0])
    scales.flags.writeable = False
    noise_scales(scaled("gaussian"), scales, 0.3)
    usual_scales((scaled("gaussian"),), scales)
    assert_array_equal(scales, [1.0, 0.0, 9.0, 1.0])
