"""What each model minimises, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from .._torch import make_generator
from ._autoencoders import Autoencoder, VariationalAutoencoder
from ._cells import Cells
from ._importance import importance_draws, log_mean_exp, log_prob, normal_points
from ._layers import LinearPath, affine
from ._neighbors import neighbor_losses
from ._normal import gaussian_draws, gaussian_kl, gaussian_log_prob, standard_normal
from ._passes import WrittenOut
from ._stacked import Members

VALIDATION_POINTS = 8
VALIDATION_DRAWS = 4  # of what a denoising autoencoder is judged to undo, for each row
DEFENCE = 0.01  # share of the start in the density of a VAE
MOST_SIGNAL = 10.0  # over noise, that leaving the codes of the start is priced by


class Reconstruction:
    """The loss of a reconstruction, from corrupted inputs and by legible codes.

    Noise that stays, and masks, are there to be undone, and so they are in what judges:
    the same draws at any time. Noise that falls is forgotten by then.

    Parameters
    ----------
    module : Autoencoder
    generator : torch.Generator
    noise_scale : Tensor of shape (n_features,)
        Standard deviation of the Gaussian noise on each input.
    anneal : bool
        Let the noise fall with the learning rate: it is then a regulariser of the
        search, and the weights that come out are fitted to clean rows.
    masking : float
        Share of the input cells that are set to the column's mean; the indicators of
        one column are so together.
    centre : Tensor of shape (n_features,)
        The columns' means.
    sample : (Cells, Tensor)
        Rows, and their weights, by which the threshold of sparse codes is settled.
    legibility : float
        Weight of the squared distance of a code from the linear one, over the number of
        the table's columns: how far the reconstruction that is linear in the code moves
        from the best such. Nothing where the encoder has no linear path.
    neighborhood : float
        Weight of `neighbor_losses` of the codes, which are then no longer to be like
        linear ones.

    References
    ----------
    Vincent, P. et al. (2008). Extracting and composing robust features with denoising
    autoencoders. ICML.
    """

    warm_up_epochs = 0

    def __init__(
        self,
        module: Autoencoder,
        generator: torch.Generator,
        *,
        noise_scale: Tensor | None,
        anneal: bool,
        masking: float,
        centre: Tensor,
        sample: tuple[Cells, Tensor],
        legibility: float,
        neighborhood: float,
    ) -> None:
        self.module = module
        self.generator = generator
        self.full_noise = self.noise = noise_scale
        self.anneal = anneal
        self.masking = masking
        self.centre = centre
        self.sample = sample
        self.neighborhood = neighborhood
        is_map = neighborhood > 0
        is_priced = isinstance(module.encoder, LinearPath) and not is_map
        self.price = legibility / module.n_features if is_priced else 0.0
        self.written_out = None if is_map else WrittenOut.of(module, self.price)
        self.of_users = [m for m in module.modules() if isinstance(m, Members)]
        self.module.settle(*sample)

    def begin_epoch(self, epoch: int, rate: float) -> None:
        if self.module.is_sparse:
            self.module.eval()
            self.module.settle(*self.sample)
        if self.anneal and self.full_noise is not None:
            self.noise = self.full_noise * rate

    def training_loss(self, cells: Cells, own: slice | None = None) -> Tensor:
        spoiled = self._corrupt(cells, self.noise, self.generator)
        if self.written_out is not None and cells.seen is None:
            cells, spoiled = cells.own(own), spoiled.own(own)
            return self.written_out.losses(spoiled.values, cells.values)
        return self._loss(spoiled, cells, own)

    def validation_loss(self, cells: Cells, own: slice | None = None) -> Tensor:
        """Loss of rows as they are to be met.

        Clean ones, or several draws of each that are corrupted.
        """
        lasting = None if self.anneal else self.noise
        if lasting is None and self.masking == 0:
            return self._loss(cells, cells, own)
        generator = make_generator(0, cells.device)
        spoiled = [
            self._corrupt(cells, lasting, generator) for _ in range(VALIDATION_DRAWS)
        ]
        draws = [self._loss(each, cells, own) for each in spoiled]
        return torch.stack(draws).mean(dim=0)

    def _loss(self, spoiled: Cells, cells: Cells, own: slice | None) -> Tensor:
        if self.neighborhood == 0:  # or a row costs what those beside it say
            spoiled, cells, own = spoiled.own(own), cells.own(own), None
        for members in self.of_users:
            members.fold = cells.fold
        module, inputs = self.module, self.module.inputs(spoiled)
        code = module.encoder(inputs)
        latent = module.threshold(code)
        loss = module.loss.row_mean(module.decoder(latent), cells.values, cells.seen)
        if self.price > 0:
            linear = cast("LinearPath", module.encoder).straight(inputs)
            loss = loss + self.price * (code - linear).square().sum(dim=-1)
        if self.neighborhood > 0:
            near = neighbor_losses(latent, cells.values)
            loss = loss + self.neighborhood * near
        return loss if own is None else loss[..., own]

    def _corrupt(
        self, cells: Cells, noise: Tensor | None, generator: torch.Generator
    ) -> Cells:
        rows = cells.values
        if noise is not None:
            rows = torch.addcmul(rows, noise, standard_normal(rows, generator))
        if self.masking > 0:
            hidden = rows.new_empty(len(rows), self.module.n_features)
            hidden.bernoulli_(self.masking, generator=generator)
            hidden = hidden.index_select(1, self.module.cell).bool()
            rows = torch.where(hidden, self.centre, rows)
        return replace(cells, values=rows)


class EvidenceBound:
    """Minus the reparameterised evidence lower bound (ELBO) of a VAE, in nats.

    With several particles the bound is the importance-weighted one [2]_; else the KL
    term is in closed form [1]_ where the prior is standard normal. β weighs the KL
    term [3]_ and rises from zero over `kl_warmup` epochs; `free_bits` nats of each
    component of a row cost nothing [4]_. What a component says beside a mixture prior
    is its divergence from a Gaussian of the prior's moments.

    With an anchor, a start and a weight, codes that are not those of the start have a
    price: the nats that the reconstruction which is linear in the code loses by the
    departure, at a noise of at least a tenth of the component's signal. It is part of
    what trains, not of what judges, which is the bound alone.

    References
    ----------
    .. [1] Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. ICLR.
    .. [2] Burda, Y. et al. (2016). Importance weighted autoencoders. ICLR.
    .. [3] Higgins, I. et al. (2017). beta-VAE. ICLR.
    .. [4] Kingma, D. P. et al. (2016). Improved variational inference with inverse
       autoregressive flow. NeurIPS.
    """

    def __init__(
        self,
        module: VariationalAutoencoder,
        generator: torch.Generator,
        *,
        beta: float,
        kl_warmup: int,
        free_bits: float,
        n_particles: int,
        is_stacked: bool = False,
        anchor: Anchor | None = None,
    ) -> None:
        self.module = module
        self.generator = generator
        self.beta = self.full_beta = beta
        self.warm_up_epochs = kl_warmup
        self.free_bits = free_bits
        self.n_particles = n_particles
        self.is_stacked = is_stacked
        self.anchor = anchor
        self.of_users = [m for m in module.modules() if isinstance(m, Members)]
        self.points = normal_points(VALIDATION_POINTS, module.prior.n_components)

    def begin_epoch(self, epoch: int, rate: float) -> None:
        risen = (epoch + 1) / (self.warm_up_epochs + 1)
        self.beta = self.full_beta * min(1.0, risen)

    def training_loss(self, cells: Cells, own: slice | None = None) -> Tensor:
        like = cells.values.new_empty(
            self.n_particles, len(cells), self.points.shape[1]
        )
        noise = standard_normal(like, self.generator)
        if own is not None:
            cells, noise = cells.own(own), noise[:, own]
        for members in self.of_users:
            members.fold = cells.fold
        posterior = self.module.posterior(cells)
        loss = -self._bound(cells, posterior, noise, self.beta)
        if self.anchor is not None:
            loss = loss + self.anchor.price(cells.values, posterior[0])
        return loss

    def validation_loss(self, cells: Cells, own: slice | None = None) -> Tensor:
        """Minus the bound at full β, at the same points for every row."""
        cells = cells.own(own)
        points = self.points.to(cells.values)[:, None, :]
        posterior = self.module.posterior(cells)
        return -self._bound(cells, posterior, points, self.full_beta)

    def _bound(
        self,
        cells: Cells,
        posterior: tuple[Tensor, Tensor],
        noise: Tensor,
        beta: float,
    ) -> Tensor:
        """Bound the log-density of each row by draws of the code.

        Importance weights are those of a likelihood: other β and free bits take the
        average over the draws.
        """
        module = self.module
        if self.is_stacked:
            noise = noise.unsqueeze(1)
        if beta == 1 and len(noise) > 1 and self.free_bits == 0:
            _, log_weights = importance_draws(module, cells, posterior, noise)
            return defended(log_mean_exp(log_weights), cells)
        z = gaussian_draws(*posterior, noise)
        log_likelihood = log_prob(module, z, cells).mean(dim=0)
        said = gaussian_kl(*posterior, *module.prior.moments()).clamp(min=0)
        if module.prior.is_standard:
            kl = said.sum(dim=-1)
        else:
            log_ratio = gaussian_log_prob(z, *posterior)
            kl = (log_ratio - module.prior.log_prob(z)).mean(dim=0)
        kl = kl + (self.free_bits - said).clamp(min=0).sum(dim=-1)
        bound = log_likelihood - beta * kl
        return defended(bound, cells) if beta == 1 else bound


@dataclass(frozen=True)
class Anchor:
    """The codes of a linear start, and what it costs to depart from them.

    Attributes
    ----------
    projection : Tensor of shape (n_components, n_columns)
    bias : Tensor of shape (n_components,)
    weight : Tensor of shape (n_components,)
        Price of half a squared departure, in nats.

    Those of several networks are stacked.
    """

    projection: Tensor
    bias: Tensor
    weight: Tensor

    @classmethod
    def of(cls, start: LinearPath, n_columns: int, legibility: float) -> Anchor:
        """Price departures by signal over noise, as the posterior's variance has it.

        Parameters
        ----------
        start : LinearPath
            An encoder, or several, before training.
        n_columns : int
            Of its inputs, those that are not flags of missing cells.
        legibility : float
        """
        bias, log_variances = start.bias.detach().clone().chunk(2, dim=-1)
        signal = torch.expm1(-log_variances).clamp(0, MOST_SIGNAL)
        projection = start.weight.detach()[..., : bias.shape[-1], :n_columns].clone()
        return cls(projection, bias, legibility * signal)

    def price(self, values: Tensor, codes: Tensor) -> Tensor:
        """Compute what the codes of each row cost."""
        departure = codes - affine(values, self.projection, self.bias)
        return 0.5 * (departure.square() * self.weight).sum(dim=-1)


def defended(log_density: Tensor, cells: Cells) -> Tensor:
    """Mix a share of the start, probabilistic PCA, into the density of the rows.

    With such a defensive mixture [1]_ training is not bent by rows that the start
    explains better.

    References
    ----------
    .. [1] Hesterberg, T. (1995). Weighted average importance sampling and defensive
       mixture distributions. Technometrics 37(2), 185-194.
    """
    if cells.log_density is None:
        return log_density
    return torch.logaddexp(
        log_density + math.log1p(-DEFENCE), cells.log_density + math.log(DEFENCE)
    )
