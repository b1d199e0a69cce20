"""Autoencoders as scikit-learn transformers."""

from ._autoencoder import AutoencoderTransformer
from ._displays import LossCurveDisplay
from ._vae import VAETransformer

__all__ = ["AutoencoderTransformer", "LossCurveDisplay", "VAETransformer"]
__version__ = "0.1.0"
