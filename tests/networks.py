"""Small networks in double precision."""

from __future__ import annotations

import torch
from models import draws, generator

from skae.network._autoencoders import Autoencoder, VariationalAutoencoder
from skae.network._layers import LinearPath, multilayer_perceptron
from skae.network._likelihoods import Bernoulli
from skae.network._losses import SquaredError
from skae.network._priors import StandardNormal


def perceptron(*widths, activation="silu", dropout=0.0, starts_at_zero=False, seed=0):
    return multilayer_perceptron(
        widths, activation, dropout, generator(seed), starts_at_zero=starts_at_zero
    ).double()


def layers(module, kind):
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def autoencoder(widths=(1, 1, 1, 1), incomplete=()):
    n_inputs = 4 + len(incomplete)
    encoder = LinearPath(
        draws(2, n_inputs),
        draws(2),
        perceptron(n_inputs, 5, 2),
        input_centre=torch.zeros(n_inputs).double(),
        input_scale=torch.ones(n_inputs).double(),
        output_scale=torch.ones(2).double(),
    )
    decoder = perceptron(2, 5, 4)
    return Autoencoder(encoder, decoder, SquaredError(), widths, incomplete)


def vae(prior=None, likelihood=None, incomplete=()):
    return VariationalAutoencoder(
        perceptron(4 + len(incomplete), 5, 6),
        perceptron(3, 5, 4),
        likelihood or Bernoulli(),
        prior or StandardNormal(3),
        (1, 1, 1, 1),
        incomplete,
    )
