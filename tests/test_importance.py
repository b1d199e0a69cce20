"""Importance-weighted draws of the code, and the points that they are made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import N_CODES, cells_with_holes, curved_vae, draws, mixture
from numpy.testing import assert_allclose
from torch.testing import assert_close

from skae.network._cells import Cells
from skae.network._importance import (
    importance_draws,
    log_mean_exp,
    log_prob,
    normal_points,
)
from skae.network._normal import gaussian_log_prob

# --------------------------------------------------------------- draws of the encoder


def test_importance_draws_are_codes_of_the_posterior_with_their_weights():
    model, cells, noise = (
        curved_vae(mixture()),
        cells_with_holes(),
        draws(7, 1, N_CODES),
    )
    z, log_weights = importance_draws(model, cells, model.posterior(cells), noise)
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


def test_logarithms_of_means_stay_finite_far_from_zero():
    log_weights = draws(5, 3)
    expected = log_weights.exp().mean(dim=0).log()
    assert_close(log_mean_exp(log_weights), expected)
    assert_close(log_mean_exp(log_weights - 1e4), expected - 1e4)
    assert_close(log_mean_exp(log_weights + 1e4), expected + 1e4)


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
