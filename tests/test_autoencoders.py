"""Autoencoders and variational ones against what they are made of."""

from __future__ import annotations

import pytest
import torch
from models import draws
from networks import autoencoder, layers, vae
from torch import nn
from torch.testing import assert_close

from skae.network._autoencoders import LARGEST_LOG_VARIANCE, network_weights
from skae.network._cells import Cells
from skae.network._priors import GaussianMixture


def with_holes(n_features=4):
    """Make rows of which the third has nothing seen and the last two everything."""
    seen = (draws(5, n_features, seed=5) > 0).double()
    seen[2], seen[3:] = 0, 1
    return Cells(draws(5, 4, seed=3), seen)


def test_autoencoder_joins_encoder_and_decoder():
    model, x = autoencoder(), draws(5, 4, seed=3)
    latent = model.latent(Cells(x))
    assert_close(latent, model.encoder(x))
    assert_close(model.decoded(latent), model.decoder(model.encoder(x)))
    assert_close(model(x), model.decoder(model.encoder(x)))


def test_reconstruction_is_the_mean_that_the_output_stands_for():
    model, z = vae(), draws(5, 3)
    assert_close(model.decoded(z), torch.sigmoid(model.decoder(z)))


@pytest.mark.parametrize("make", [autoencoder, vae])
@pytest.mark.parametrize("incomplete", [(), (1,), (0, 3)])
def test_the_encoder_is_told_which_cells_of_incomplete_columns_are_missing(
    make, incomplete
):
    model, cells = make(incomplete=incomplete), with_holes()
    missing = 1 - cells.seen[:, list(incomplete)]
    expected = model.encoder(torch.cat([cells.values, missing], dim=1))
    assert_close(model.encode(cells), expected)
    whole = torch.cat([cells.values, torch.zeros_like(missing)], dim=1)
    assert_close(model.encode(Cells(cells.values)), model.encoder(whole))


@pytest.mark.parametrize("make", [autoencoder, vae])
def test_missing_cells_of_other_columns_are_not_told(make):
    model, cells = make(incomplete=(1,)), with_holes()
    told, expected = cells.seen.clone(), model.encode(cells)
    told[:, 0] = 0
    assert torch.equal(model.encode(Cells(cells.values, told)), expected)
    told[:, 1] = 0
    found = model.encode(Cells(cells.values, told))
    assert not torch.isclose(found, expected)[3:].any()


def test_squared_errors_are_those_of_each_number():
    model, cells = autoencoder(), with_holes()
    expected = (model(cells.values) - cells.values).square()
    assert_close(model.squared_errors(Cells(cells.values)), expected)
    assert_close(model.squared_errors(cells), expected * cells.seen)


@pytest.mark.parametrize("widths", [(4,), (3, 1), (1, 3), (2, 2), (1, 2, 1)], ids=str)
def test_squared_errors_of_indicators_are_summed_for_each_cell(widths):
    model, cells = autoencoder(widths), with_holes(len(widths))
    errors = (model(cells.values) - cells.values).square()
    parts = [part.sum(dim=1) for part in errors.split(widths, dim=1)]
    expected = torch.stack(parts, dim=1)
    assert_close(model.squared_errors(Cells(cells.values)), expected)
    assert_close(model.squared_errors(cells), expected * cells.seen)


def test_code_of_a_vae_is_the_posterior_mean():
    model, x = vae(), draws(5, 4, seed=3)
    mean, log_variance = model.posterior(Cells(x))
    assert mean.shape == log_variance.shape == (5, 3)
    assert_close(torch.cat([mean, log_variance], dim=1), model.encoder(x))
    assert torch.equal(model.latent(Cells(x)), mean)


def test_holes_add_to_the_log_variances_of_the_code_alone():
    model, cells, added = vae(), with_holes(), draws(5, 3, seed=7)
    mean, log_variance = model.posterior(cells)
    wider = model.posterior(Cells(cells.values, cells.seen, added))
    assert torch.equal(wider[0], mean)
    assert_close(wider[1], log_variance + added)


def test_posteriors_are_no_wider_than_the_largest():
    model, cells = vae(), with_holes()
    mean, log_variance = model.posterior(cells)
    added = torch.zeros(5, 3).double()
    added[:, 1] = 2 * LARGEST_LOG_VARIANCE
    wider = model.posterior(Cells(cells.values, cells.seen, added))
    log_variance[:, 1] = LARGEST_LOG_VARIANCE
    assert torch.equal(wider[0], mean)
    assert torch.equal(wider[1], log_variance)


def test_what_is_kept_with_the_weights_holds_no_layout_of_columns():
    kept = set(autoencoder(incomplete=(1,)).state_dict())
    assert not {"cell", "incomplete"} & kept
    assert "encoder.weight" in kept


# ------------------------------------------------------------ weights under penalties


def test_network_weights_are_the_matrices_of_the_networks_alone():
    model = autoencoder()
    expected = [
        *layers(model.encoder.network, nn.Linear),
        *layers(model.decoder, nn.Linear),
    ]
    assert {id(p) for p in network_weights(model)} == {id(m.weight) for m in expected}


def test_network_weights_leave_the_prior_out():
    model = vae(GaussianMixture(5, 3))
    expected = layers(model, nn.Linear)
    assert {id(p) for p in network_weights(model)} == {id(m.weight) for m in expected}
