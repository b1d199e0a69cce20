"""Autoencoders as scikit-learn transformers."""

from ._autoencoder import AutoencoderTransformer
from ._imputer import AutoencoderImputer
from ._run import checkpoint, data_parallel
from ._state import VERSION
from ._vae import VAETransformer
from .export._onnx import register_onnx, to_onnx
from .inspection._comparison import compare_tables
from .inspection._components import ComponentsDisplay
from .inspection._effects import component_effects, traverse
from .inspection._latent import LatentDisplay
from .inspection._loss_curve import LossCurveDisplay
from .inspection._reconstruction_error import ReconstructionErrorDisplay
from .inspection._sample import SampleDisplay
from .inspection._width import WidthDisplay
from .table._large import LargeTable

__all__ = [
    "AutoencoderImputer",
    "AutoencoderTransformer",
    "ComponentsDisplay",
    "LargeTable",
    "LatentDisplay",
    "LossCurveDisplay",
    "ReconstructionErrorDisplay",
    "SampleDisplay",
    "VAETransformer",
    "WidthDisplay",
    "checkpoint",
    "compare_tables",
    "component_effects",
    "data_parallel",
    "register_onnx",
    "to_onnx",
    "traverse",
]
__version__ = VERSION
