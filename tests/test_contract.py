"""scikit-learn's own contract, whole, in every setting."""

from __future__ import annotations

import numpy as np
import pytest
from settings import ESTIMATORS, QUICK
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import (
    check_estimator,
    estimator_checks_generator,
    parametrize_with_checks,
)

from skae import AutoencoderImputer, AutoencoderTransformer, VAETransformer

DEFAULTS = ["AutoencoderTransformer, default", "VAETransformer, default"]
BOTH = [cls(**QUICK) for cls in (AutoencoderTransformer, VAETransformer)]
IMPUTERS = [AutoencoderImputer(estimator) for estimator in BOTH]
BEYOND = [
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_dataframe_column_names_consistency",
    "check_n_features_in",
    "check_readonly_memmap_input",
    "check_fit1d",
    "check_fit2d_predict1d",
    "check_fit2d_1sample",
    "check_fit2d_1feature",
    "check_dict_unchanged",
    "check_methods_subset_invariance",
    "check_methods_sample_order_invariance",
]


# Of arrays of cupy and dpnp, and of tensors on devices that are not here.
OF_ABSENT_DEVICES = {"check_array_api_input", "check_array_api_mixed_inputs"}


def checks_of_settings():
    for setting in sorted(ESTIMATORS.keys() - set(DEFAULTS)):
        for estimator, check in estimator_checks_generator(ESTIMATORS[setting]):
            name = check.func.__name__
            if name not in OF_ABSENT_DEVICES:
                yield pytest.param(estimator, check, id=f"{setting}-{name}")


@pytest.mark.parametrize(("estimator", "check"), [*checks_of_settings()])
def test_every_check_in_every_setting(estimator, check):
    check(estimator)


@parametrize_with_checks(IMPUTERS, xfail_strict=True)
def test_every_check_of_imputers(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", DEFAULTS)
def test_check_estimator_passes_whole(name):
    results = check_estimator(clone(ESTIMATORS[name]), on_skip=None, on_fail="raise")
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= OF_ABSENT_DEVICES
    assert sum(result["status"] == "passed" for result in results) >= 59


@pytest.mark.filterwarnings("ignore:X .* feature names")
@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("estimator", BOTH, ids=lambda e: type(e).__name__)
def test_checks_that_check_estimator_leaves_out(estimator, name):
    getattr(estimator_checks, name)(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_integer_weights_are_repeated_rows_bit_for_bit(estimator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    weight = rng.integers(0, 4, size=40)
    weighted = clone(estimator).set_params(random_state=0)
    repeated = clone(weighted).fit(np.repeat(X, weight, axis=0))
    weighted.fit(X, sample_weight=weight)
    np.testing.assert_array_equal(weighted.transform(X), repeated.transform(X))
