"""Autoencoders as scikit-learn transformers."""

from ._autoencoder import AutoencoderTransformer
from ._imputer import AutoencoderImputer
from ._state import VERSION
from ._vae import VAETransformer
from .export._onnx import register_onnx, to_onnx
from .inspection._loss_curve import LossCurveDisplay

__all__ = [
    "AutoencoderImputer",
    "AutoencoderTransformer",
    "LossCurveDisplay",
    "VAETransformer",
    "register_onnx",
    "to_onnx",
]
__version__ = VERSION
