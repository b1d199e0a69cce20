"""The networks that train side by side start without having seen their judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from settings import curved_table
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer
from skae._base import PURPOSES
from skae._torch import derive_seeds
from skae.model._crew import Crew
from skae.network._cells import Cells
from skae.training._folds import Folds

X = curved_table(60)
START = AutoencoderTransformer(2, max_iter=0, random_state=0, device="cpu").fit(X)
ENCODED = START._table.encode(X)


def test_each_fold_starts_at_the_components_of_the_rows_that_it_trains_on():
    folds = Folds.among(len(X), 0)
    crew = Crew.of(START._model, ENCODED, folds.fold, seed=0)
    rows = torch.from_numpy(ENCODED.matrix).float()
    found = crew.module.decoded(crew.module.latent(Cells(rows))).detach().numpy()
    for fold, reconstructed in enumerate(found[:-1]):
        pca = PCA(2).fit(ENCODED.matrix[folds.fold != fold])
        expected = pca.inverse_transform(pca.transform(ENCODED.matrix))
        np.testing.assert_allclose(reconstructed, expected, atol=1e-4)
    whole = PCA(2).fit(ENCODED.matrix)
    expected = whole.inverse_transform(whole.transform(ENCODED.matrix))
    np.testing.assert_allclose(found[-1], expected, atol=1e-4)


def test_the_folds_share_their_first_hidden_weights():
    crew = Crew.of(START._model, ENCODED, Folds.among(len(X), 0).fold, seed=0)
    first = crew.module.encoder.network[0].weight
    assert torch.equal(first[:-1], first[:1].expand_as(first[:-1]))


def test_the_final_member_is_the_last():
    crew = Crew.of(START._model, ENCODED, Folds.among(len(X), 0).fold, seed=0)
    with torch.no_grad():
        for number, parameter in enumerate(crew.module.parameters()):
            parameter[-1] += number
    last = dict(crew.module.named_parameters())
    for name, parameter in crew.final_member().named_parameters():
        assert torch.equal(parameter, last[name][-1].reshape(parameter.shape))


def test_without_folds_there_is_one_module():
    crew = Crew.of(START._model, ENCODED, None, seed=0)
    assert crew.module is crew.final is crew.final_member()
    assert crew.judged() == []


def test_the_models_of_the_folds_are_the_first_members_as_trained():
    folds = Folds.among(len(X), 0)
    crew = Crew.of(START._model, ENCODED, folds.fold, seed=0)
    with torch.no_grad():
        for number, parameter in enumerate(crew.module.parameters()):
            parameter += 0.01 * number
    rows = torch.from_numpy(ENCODED.matrix).float()
    whole = crew.module.decoded(crew.module.latent(Cells(rows))).detach().numpy()
    models = crew.judged()
    assert len(models) == len(whole) - 1 == 3
    for k, model in enumerate(models):
        np.testing.assert_allclose(model.filled(ENCODED), ENCODED.matrix)
        found = model.rows_of(model.codes(ENCODED))
        np.testing.assert_allclose(found, whole[k], rtol=1e-4, atol=1e-4)
        pca = PCA(2).fit(ENCODED.matrix[folds.fold != k])
        np.testing.assert_allclose(model.linear.mean, pca.mean_, atol=1e-12)


# ------------------------------------------------------------- a user's own modules


def own_module(n_inputs, n_outputs):
    last = nn.Linear(6, n_outputs)
    return nn.Sequential(nn.Linear(n_inputs, 6), nn.BatchNorm1d(6), nn.SiLU(), last)


def started_with(**networks):
    start = AutoencoderTransformer(2, max_iter=0, device="cpu", random_state=0)
    return start.set_params(**networks).fit(X)._model


@pytest.mark.parametrize("linear_path", [True, False])
def test_own_modules_start_as_that_of_all_rows(linear_path):
    model = started_with(encoder=own_module, linear_path=linear_path)
    seed = derive_seeds(0, *PURPOSES)["weights"]
    crew = Crew.of(model, ENCODED, Folds.among(len(X), 0).fold, seed)
    (place,) = model.design.own_modules
    own = crew.module.get_submodule(place).members
    assert len({id(member) for member in own}) == len(own) == 4
    for member in own:
        for name, tensor in member.state_dict().items():
            expected = torch.from_numpy(model.weights[f"{place}.{name}"])
            torch.testing.assert_close(tensor, expected, check_dtype=False)


def test_the_final_member_has_the_buffers_of_the_last():
    model = started_with(decoder=own_module)
    crew = Crew.of(model, ENCODED, Folds.among(len(X), 0).fold, seed=0)
    own = crew.module.decoder.network.module.members
    for number, member in enumerate(own):
        member[1].running_mean.fill_(number)
    found = crew.final_member().decoder.network.module[1].running_mean
    assert torch.equal(found, torch.full((6,), 3.0))
