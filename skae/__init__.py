"""Autoencoders as scikit-learn transformers."""

from ._autoencoder import AutoencoderTransformer
from ._imputer import AutoencoderImputer
from ._state import VERSION
from ._vae import VAETransformer
from .inspection._loss_curve import LossCurveDisplay

__all__ = [
    "AutoencoderImputer",
    "AutoencoderTransformer",
    "LossCurveDisplay",
    "VAETransformer",
]
__version__ = VERSION
