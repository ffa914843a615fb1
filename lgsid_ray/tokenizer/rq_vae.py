"""RQ-VAE (Zeghidour et al., 2021; for SIDs Rajput et al., NeurIPS 2023): residual levels between encoder and decoder.

What stands here is the network, its loss, the start of its codebooks and the revival of their dead codes. No Ray.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.config.tokenizer import RqVaeConfig
from lgsid_ray.tokenizer.assign import assign
from lgsid_ray.tokenizer.kmeans import farthest, move, plus_plus, repair, statistics
from lgsid_ray.tokenizer.latent import Autoencoder
from lgsid_ray.tokenizer.levels import on_embeddings
from lgsid_ray.tokenizer.metrics import level_metrics
from lgsid_ray.tokenizer.tokenizer import Tokenizer

_LLOYD = 10  # steps from k-means++ on


class RqVae(nn.Module):
    """Encoder, codebooks, decoder.

    Args:
        rows: (n, d) embeddings that give the inputs' mean and scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, rows: Float32, config: RqVaeConfig) -> None:
        super().__init__()
        self.commitment = config.commitment
        widths = [rows.shape[1], *config.hidden, config.latent]
        self.encoder, self.decoder = _perceptron(widths), _perceptron(widths[::-1])
        mean = rows.mean(axis=0)
        scale = max(float(np.sqrt(np.square(rows - mean, dtype=np.float64).mean())), 1e-12)
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.tensor(scale))
        self.codebooks = nn.ParameterList(nn.Parameter(torch.zeros(size, config.latent)) for size in config.codes)

    @torch.no_grad()
    def start(self, rows: Float32, seed: int) -> None:
        """Put the codebooks where K-Means puts them, level by level, in the latents of (n, d) rows."""
        left, rng = self.latent(torch.from_numpy(rows)).numpy(), np.random.default_rng(seed)
        for codebook in self.codebooks:
            centres = _kmeans(left, len(codebook), rng)
            codebook.copy_(torch.from_numpy(centres))
            left = left - centres[assign(left, centres)]

    def latent(self, x: Tensor) -> Tensor:
        """(n, d) embeddings → (n, w)."""
        encoded: Tensor = self.encoder((x - self.mean) / self.scale)
        return encoded

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of (n, d) embeddings the mean squared error, relative to their variance, and the codebooks' loss.

        The latter is Σ_l ‖sg[r_l] − e_l‖² + β ‖r_l − sg[e_l]‖² per dimension (Eq 1 of Rajput et al.); gradients pass
        the choice of codes straight through.
        """
        z = self.latent(x)
        left, quantised, books = z, torch.zeros_like(z), z.new_zeros(())
        for codebook in self.codebooks:
            chosen = codebook[torch.cdist(left.detach(), codebook.detach()).argmin(dim=1)]
            books = books + F.mse_loss(chosen, left.detach()) + self.commitment * F.mse_loss(left, chosen.detach())
            quantised, left = quantised + chosen, left - chosen.detach()
        decoded = self.decoder(z + (quantised - z).detach())
        return F.mse_loss(decoded, (x - self.mean) / self.scale), books

    @torch.no_grad()
    def revived(self, rows: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The codebooks by parameter name, codes that none of (n, d) rows chooses put on the rows farthest from theirs.

        And the perplexity of every level before, by its name in the history.
        """
        left, books, figures = self.latent(rows).cpu().numpy(), {}, {}
        for number, codebook in enumerate(self.codebooks):
            centres = codebook.detach().cpu().numpy()
            label = assign(left, centres)
            counts = np.bincount(label, minlength=len(centres))
            far = farthest(left, centres, len(centres))
            books[f"codebooks.{number}"] = torch.from_numpy(repair(centres, counts == 0, far))
            figures[f"perplexity_{number + 1}"] = level_metrics(counts)["perplexity"]
            left = left - centres[label]
        return books, figures


def tokenizer_of(model: RqVae, kind: str) -> Tokenizer:
    """The trained network as a tokenizer; the inputs' mean and scale become part of its first and last layers."""
    encoder, decoder = _layers(model.encoder), _layers(model.decoder)
    mean, scale = model.mean.cpu().double().numpy(), float(model.scale)
    weight, bias = encoder[0]
    encoder[0] = (weight / scale, bias - weight @ mean / scale)
    weight, bias = decoder[-1]
    decoder[-1] = (weight * scale, bias * scale + mean)
    whole = Autoencoder(_narrow(encoder), _narrow(decoder))
    levels = tuple(on_embeddings(book.detach().cpu().numpy()) for book in model.codebooks)
    return Tokenizer(kind, levels, latent=whole)


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inward, outward in pairwise(widths):
        layers += [nn.Linear(inward, outward), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _kmeans(rows: Float32, size: int, rng: np.random.Generator) -> Float32:
    centres = plus_plus(rows, np.ones(len(rows)), size, rng)
    for _ in range(_LLOYD):
        total = statistics(rows, centres)
        centres = repair(move(centres, total), total.counts == 0, farthest(rows, centres, size))
    return centres


def _layers(side: nn.Sequential) -> list[tuple[Float64, Float64]]:
    linear = [layer for layer in side if isinstance(layer, nn.Linear)]
    return [(one.weight.detach().cpu().double().numpy(), one.bias.detach().cpu().double().numpy()) for one in linear]


def _narrow(layers: list[tuple[Float64, Float64]]) -> tuple[tuple[Float32, Float32], ...]:
    return tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers)
