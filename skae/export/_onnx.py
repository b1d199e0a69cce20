"""Fitted transformers as ONNX graphs, alone and in scikit-learn's pipelines."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from .._autoencoder import AutoencoderTransformer
from .._vae import VAETransformer
from ._converters import (
    DTYPES,
    Part,
    code_shape,
    code_types,
    convert_encoder,
    convert_part,
    keep_shape,
    parse_part,
    table_types,
)

PARTS = ("encoder", "decoder")


def register_onnx() -> None:
    """Let `skl2onnx` convert both transformers, in pipelines and alone.

    Needs ``pip install "skae[onnx]"``. The graph holds all of `transform`: scales,
    normal scores, levels of text, and the networks, in the precision of its input.

    Notes
    -----
    The graph has no EM: a row with a missing cell (NaN) has NaN for its code, and so
    has a row with a level that the fit did not have, unless the fit had rare levels,
    which such a level then counts as.

    Examples
    --------
    >>> import skl2onnx
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import skae
    >>> X, y = load_iris(return_X_y=True)
    >>> reduce = skae.AutoencoderTransformer(max_iter=3, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), reduce, LogisticRegression())
    >>> skae.register_onnx()
    >>> graph = skl2onnx.to_onnx(pipeline.fit(X, y), X[:1].astype("float32"))
    >>> [output.name for output in graph.graph.output]
    ['output_label', 'output_probability']
    """
    from skl2onnx import update_registered_converter

    for transformer in (AutoencoderTransformer, VAETransformer):
        name = f"Skae{transformer.__name__}"
        update_registered_converter(
            transformer, name, code_shape, convert_encoder, overwrite=True
        )
    update_registered_converter(
        Part, "SkaePart", keep_shape, convert_part, parser=parse_part
    )


def to_onnx(
    estimator: Any,
    *,
    part: str = "encoder",
    dtype: str = "float32",
    target_opset: int | None = None,
) -> Any:
    """Write the encoder or the decoder of a fitted transformer as an ONNX graph.

    Needs ``pip install "skae[onnx]"``.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAETransformer
        Fitted on a table without missing cells.
    part : {"encoder", "decoder"}, default="encoder"
        What `transform` computes, or what `inverse_transform` does.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the graph. Single precision is what most runtimes are fast in.
    target_opset : int, default=None
        Version of ONNX' operators, 18 or later; None is the latest that skl2onnx
        knows.

    Returns
    -------
    graph : onnx.ModelProto
        The encoder takes the table as ``"X"``, of shape (n_samples, n_features), and
        gives ``"codes"``. If it has columns of text, it takes every column alone, by
        its name and of shape (n_samples, 1). The decoder takes ``"codes"`` and gives
        the same: ``"X"``, or every column by its name.

    Raises
    ------
    ValueError
        If the table of the fit had missing cells, or a column of texts and other
        levels, or if an argument is not as expected.

    See Also
    --------
    register_onnx : The same within a pipeline.

    Notes
    -----
    The graph has no EM: a row with a missing cell (NaN) has NaN for its code, and so
    has a row with a level that the fit did not have, unless the fit had rare levels,
    which such a level then counts as. Decimals, as dataframes hold them, leave the
    decoder as floats that are not rounded. onnxruntime has no GELU in double precision.

    Examples
    --------
    >>> import onnxruntime
    >>> from sklearn.datasets import load_iris
    >>> import skae
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = skae.VAETransformer(max_iter=3, random_state=0).fit(X)
    >>> graph = skae.to_onnx(vae, dtype="float64").SerializeToString()
    >>> (codes,) = onnxruntime.InferenceSession(graph).run(None, {"X": X})
    >>> bool(abs(codes - vae.transform(X)).max() < 1e-10)
    True
    """
    from skl2onnx import convert_sklearn

    if not isinstance(estimator, AutoencoderTransformer | VAETransformer):
        raise ValueError(
            f"got a {type(estimator).__name__}, but expected an AutoencoderTransformer "
            "or a VAETransformer: call register_onnx, and convert a pipeline by "
            "skl2onnx.to_onnx."
        )
    check_is_fitted(estimator)
    for name, value, expected in (("part", part, PARTS), ("dtype", dtype, DTYPES)):
        if value not in expected:
            raise ValueError(
                f"got {name}={value!r}, but expected one of {sorted(expected)}."
            )
    register_onnx()
    inputs = table_types if part == "encoder" else code_types
    return convert_sklearn(
        Part(estimator, part, dtype),
        f"{type(estimator).__name__} {part}",
        inputs(estimator, dtype),
        target_opset=target_opset,
    )
