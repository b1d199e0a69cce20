"""The networks that train side by side: one, or one per fold and one on all rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from .._schema import Encoded
from ..network._autoencoders import Autoencoder, network_weights
from ..network._design import users_randomness
from ..network._stacked import load_member, stacked, stacked_weights
from ._model import Model


@dataclass(frozen=True)
class Crew:
    """Modules to be trained, as one.

    Attributes
    ----------
    module : Autoencoder
        A single one, or a stack whose last member trains on all rows.
    penalised : list of nn.Parameter
        Weights under weight decay and the L1 penalty.
    final : Autoencoder
        Of the design, for the weights of the last member; the module itself where
        there is one.
    starts: tuple of Model
        Of the members without a fold each.
    """

    module: Autoencoder
    penalised: list[nn.Parameter]
    final: Autoencoder
    starts: tuple[Model, ...] = ()

    @classmethod
    def of(
        cls, model: Model, encoded: Encoded, fold: np.ndarray | None, seed: int
    ) -> Crew:
        """Make the modules of a model at its start.

        Each fold starts from a linear model that has not seen its judges. Tables
        with holes are too dear for that: there all start from those of all rows.

        Parameters
        ----------
        model : Model
        encoded : Encoded
        fold : ndarray of int of shape (n_rows,) or None
            Which member a row judges, -1 for none; None where there is one network.
        seed : int
            Of the first weights, which the members of the folds share: with the model,
            where that was made from the same seed.
        """
        final = _on_device(model)
        if fold is None:
            return cls(final, network_weights(final), final)
        starts = tuple(
            _start_without(model, encoded, np.flatnonzero(fold == k), seed)
            for k in range(fold.max() + 1)
        )
        members = [_on_device(start) for start in starts]
        whole = stacked([*members, final], model.design.own_modules)
        penalised = stacked_weights(whole, final)
        return cls(whole, penalised, final, starts)

    def final_member(self) -> Autoencoder:
        """Return the module of the last member, as trained."""
        if self.module is self.final:
            return self.final.eval()
        return load_member(self.module, -1, self.final).eval()

    def judged(self) -> list[Model]:
        """Return the models of the members that have not seen a fold, as trained."""
        return [
            start.learned(load_member(self.module, k, _on_device(start)), start.order)
            for k, start in enumerate(self.starts)
        ]


def _start_without(
    model: Model, encoded: Encoded, judges: np.ndarray, seed: int
) -> Model:
    """Make a model at a linear start that has not seen some rows."""
    if encoded.seen is None:
        rest = encoded.take(np.delete(np.arange(len(encoded)), judges))
        model = replace(model, linear=model.linear.of_rows(rest.matrix, rest.weight))
    design, device = model.design, model.device
    with users_randomness(design.encoder, design.decoder, seed, device):
        return Model.start(design, model.linear, seed, device)


def _on_device(model: Model) -> Autoencoder:
    return model.new_module().to(model.device, torch.float32)
