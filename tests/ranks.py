"""A process of a group that fits one table: `python ranks.py RANK FOLDER`.

It writes what came of each scenario to FOLDER, for test_group.py to compare.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch
import torch.distributed as dist
from scipy import sparse
from sklearn.base import clone
from torch import nn

import skae
from skae import AutoencoderTransformer, LargeTable, VAETransformer
from skae.table import _large

N_ROWS, SMALL = 1700, {"hidden_layer_sizes": (16, 8), "random_state": 0}
SHORT = {**SMALL, "max_iter": 3, "device": "cpu"}


def numbers(n_rows=N_ROWS):
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(n_rows, 2))
    noise = 0.1 * rng.normal(size=(n_rows, 6))
    return np.tanh(codes @ rng.normal(size=(2, 6))) + noise


def holes():
    X = numbers()
    return np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)


def pets(n_rows=N_ROWS):
    """A frame of numbers, levels and holes; the last tenth has a level of its own."""
    X, rng = numbers(n_rows), np.random.default_rng(2)
    kind = rng.choice(["cat", "dog"], size=n_rows).astype(object)
    kind[-n_rows // 10 :: 2] = "horse"
    kind[rng.random(n_rows) < 0.05] = None
    size = pd.Series(X[:, 2]).mask(X[:, 3] > 1)
    age = (5 * (X[:, 1] - X[:, 1].min())).astype(int)
    return pd.DataFrame({"kind": kind, "size": size, "age": age, "x": X[:, 0]})


def cut(X, share=0.9):
    """Cut a table into what the first and the second process have."""
    n_first = round(share * X.shape[0])
    return X[:n_first], X[n_first:]


class Part(LargeTable):
    """A table that is read by chunks, of which few rows are kept."""

    def n_kept(self, n_features):
        return min(self.n_rows or 300, 300)


def by_chunks(X, n_rows, n_chunk_rows=70):
    """Make a table of chunks of arrays or frames, in the class that keeps few."""
    if X is None:
        return None
    starts = range(0, len(X), n_chunk_rows)
    return Part(lambda: (X[i : i + n_chunk_rows] for i in starts), n_rows=n_rows)


class OnEpochs:
    """A callback that does something at the end of an epoch."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def setup(self, estimator, context):
        self.n = 0

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        self.n += context.task_name == "epoch"
        if context.task_name == "epoch" and self.n == self.epoch:
            return self.act()
        return False


class Killed(BaseException):
    """What a test does in place of a kill."""


def kill():
    raise Killed


def fail():
    raise ZeroDivisionError("an error of one process")


def press():
    os.kill(os.getpid(), signal.SIGINT)
    return False


def press_in_callback():
    raise KeyboardInterrupt


class Breaking(nn.Linear):
    """A layer that breaks at a row of the second process alone."""

    def forward(self, x):
        if dist.get_rank() and self.training:
            fail()
        return super().forward(x)


def weights_of(model):
    return dict(model._model.weights)


def answers(model, X):
    return {
        "weights": weights_of(model),
        "loss_curve": model.loss_curve_,
        "validation_curve": model.validation_curve_,
        "ended": (model.n_iter_, model.best_iter_, model.best_loss_),
        "codes": np.asarray(model.transform(X)),
        "scores": model.score_samples(X),
        "draws": model.sample(5, random_state=0),
        "device": model.device_.type,
    }


# Estimator, whole table, rows of both processes, what else `fit` is given by each.
FITS = {
    "autoencoder": (AutoencoderTransformer(2, **SHORT), numbers, cut),
    "half and half": (
        AutoencoderTransformer(2, **SHORT, solver="sgd"),
        numbers,
        lambda X: cut(X, 0.5),
    ),
    "denoising": (
        AutoencoderTransformer(2, **SHORT, noise=0.3, masking=0.2),
        holes,
        cut,
    ),
    "variational, holes": (
        VAETransformer(2, **SHORT, density="networks"),
        holes,
        lambda X: cut(X, 0.3),
    ),
    "folds": (AutoencoderTransformer(2, **SHORT), lambda: numbers(200), cut),
    "None": (AutoencoderTransformer(2, **SHORT), numbers, lambda X: (X, None)),
    "no rows": (AutoencoderTransformer(2, **SHORT), numbers, lambda X: (X[:0], X)),
    "fewer rows than processes in a batch": (
        AutoencoderTransformer(
            1, **SHORT, batch_size=1, validation_fraction=0.2, linear_path=False
        ),
        lambda: numbers(20),
        cut,
    ),
    "levels and holes": (AutoencoderTransformer(2, **SHORT), pets, cut),
    "polars": (
        AutoencoderTransformer(2, **SHORT),
        lambda: pl.from_pandas(pets(300)),
        cut,
    ),
}


LONG = {"hidden_layer_sizes": (16, 8), "random_state": 0, "device": "cpu"}
# Estimator, whole table, rows of both processes, how many of them networks see.
LARGE = {
    "all kept": (AutoencoderTransformer(2, **SHORT), lambda: numbers(250), cut, 300),
    "the start": (AutoencoderTransformer(2, **LONG, max_iter=0), numbers, cut, 300),
    "a sample": (AutoencoderTransformer(2, **LONG, max_iter=20), numbers, cut, 300),
    "streamed": (AutoencoderTransformer(2, **LONG, max_iter=8), numbers, cut, None),
    "streamed by one": (
        AutoencoderTransformer(2, **LONG, max_iter=8),
        numbers,
        lambda X: (None, X),
        None,
    ),
    "streamed, variational, holes": (
        VAETransformer(2, **SHORT, density="networks"),
        holes,
        lambda X: cut(X, 0.3),
        None,
    ),
    "pets": (AutoencoderTransformer(2, **SHORT), pets, cut, 200),
    "pets of one": (
        AutoencoderTransformer(2, **SHORT),
        pets,
        lambda X: (None, X),
        200,
    ),
}


def words(n_rows=800, n_columns=20):
    """A sparse matrix of few topics."""
    rng = np.random.default_rng(5)
    topics = rng.random((3, n_columns)) < 0.3
    rates = topics[rng.integers(0, 3, n_rows)] * 0.8
    return sparse.csr_array(rng.poisson(rates).astype(float))


def weights(X):
    return np.random.default_rng(3).uniform(0.5, 2, size=len(X))


def together(model, X, **options):
    """Fit in the group; return what came of it, or how it ended."""
    model = clone(model) if "callback" not in options else model
    if callback := options.pop("callback", None):
        model.set_callbacks(callback)
    before = set(vars(model))
    try:
        with skae.data_parallel(max_bytes=options.pop("max_bytes", 2**29)):
            model.fit(X, **options)
    except BaseException as error:
        new = [k for k in set(vars(model)) - before if k.endswith("_")]
        return {"error": f"{type(error).__name__}: {error}", "left": new}
    return {"model": model}


def spread(rank):
    found = {}
    for name, (model, make, parts) in FITS.items():
        X = make()
        ended = together(model, parts(X)[rank])
        found[name] = answers(ended["model"], X[:50]) if "model" in ended else ended
    X = numbers()
    mass, model = weights(X), AutoencoderTransformer(2, **SHORT)
    ended = together(
        model, cut(X)[rank], sample_weight=cut(mass)[rank], X_val=X[:40][rank::2]
    )
    found["weights"] = answers(ended["model"], X[:50])
    anyhow = AutoencoderTransformer(
        2, **{**SHORT, "random_state": None, "dropout": 0.1}
    )
    ended = together(anyhow, cut(X)[rank])
    found["any seed"] = answers(ended["model"], X[:50])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ended = together(model, cut(X)[rank], max_bytes=X.nbytes // 2)
    told = [str(warning.message) for warning in caught]
    found["thinned"] = answers(ended["model"], X[:50]) | {"told": told}
    return found


def large(rank, folder):
    """Fits of tables that each process reads by chunks."""
    found = {}
    for name, (model, make, parts, n_rows) in LARGE.items():
        X = make()
        ended = together(model, by_chunks(parts(X)[rank], n_rows))
        if "model" in ended:
            found[name] = answers(ended["model"], X[:50]) | stated(ended["model"], X)
        else:
            found[name] = ended
    X, path = pets(), folder / f"{rank}.parquet"
    cut(X)[rank].to_parquet(path, row_group_size=100)
    table = LargeTable(path, n_rows=200) if rank else str(path)
    ended = together(AutoencoderTransformer(2, **SHORT), table)
    found["n_rows of a path"] = ended
    ended = together(AutoencoderTransformer(2, **SHORT), LargeTable(path, n_rows=200))
    found["Parquet"] = answers(ended["model"], X[:50]) | stated(ended["model"], X)
    usual, _large.KEPT_ROWS = _large.KEPT_ROWS, 300
    X, model = words(), AutoencoderTransformer(2, **LONG, max_iter=8)
    for name, wrap in {"sparse": lambda X: X, "LargeTable of it": LargeTable}.items():
        part = wrap(cut(X)[rank])
        ended = together(model, part)
        if "model" in ended:
            dense = X.toarray()
            ended = answers(ended["model"], dense) | stated(ended["model"], dense)
        found[name] = ended
    _large.KEPT_ROWS = usual
    return found | wrong_parts(rank)


def stated(model, X):
    """What a fit has learned of all rows, and how good it is."""
    frames, scaler = model._table.frames, model._table.encoder.scaler_
    return {
        "score": model.score(X),
        "of all rows": {
            "shares": model._table.encoder.centre_,
            "centre": scaler.centre_,
            "scale": scaler.scale_,
            "range": (scaler.low_, scaler.high_),
        },
        "levels": {k: list(v) for k, v in frames.levels_.items()},
        "names": (model.n_features_in_, list(model.get_feature_names_out())),
        "dtypes": [sample.dtype for sample in frames.template_],
    }


def wrong_parts(rank):
    """Tables by chunks that do not go together."""
    X, frame, model = numbers(), pets(), AutoencoderTransformer(2, **SHORT)
    infinite = X.copy()
    infinite[-1, 0] = np.inf
    other = frame.rename(columns={"x": "y"}) if rank else frame
    text = frame.assign(kind=1.5) if rank else frame
    line_search = clone(model).set_params(solver="lbfgs")
    cases = {
        "large columns": (model, by_chunks(cut(other)[rank], 200)),
        "large container": (model, by_chunks(cut(X if rank else frame)[rank], 200)),
        "large infinity": (model, by_chunks(cut(infinite)[rank], 200)),
        "large text": (model, by_chunks(cut(text)[rank], 200)),
        "n_rows": (model, by_chunks(cut(X)[rank], 200 + rank)),
        "no chunks": (model, LargeTable(lambda: iter(()))),
        "line search": (line_search, by_chunks(cut(X)[rank], None)),
    }
    found = {name: together(*case) for name, case in cases.items()}
    table = X[:200] if rank else by_chunks(X[200:], 300)  # one at hand, one by chunks
    mixed = together(model, table)
    found["one at hand"] = (
        answers(mixed["model"], X[:50]) if "model" in mixed else mixed
    )
    mass = np.ones(170) if rank else None
    found["large weights"] = together(
        model, table[:170] if rank else table, sample_weight=mass
    )
    return found


def wrong(rank):
    """Fits that only one process could not do, then one that both can."""
    X, model = numbers(), AutoencoderTransformer(2, **SHORT)
    frame = pets()
    infinite = X.copy()
    infinite[-1, 0] = np.inf
    some, n_left = cut(X), [len(part) for part in cut(X)]
    cases = {
        "columns": (model, cut(frame.drop(columns="x") if rank else frame)[rank]),
        "container": (model, cut(X if rank else frame)[rank]),
        "infinity": (model, cut(infinite)[rank]),
        "parameters": (clone(model).set_params(max_iter=3 + rank), some[rank]),
        "device": (
            clone(model).set_params(device="vpu" if rank else "cpu"),
            some[rank],
        ),
        "no rows": (model, None),
    }
    found = {name: together(*case) for name, case in cases.items()}
    mass = np.ones(n_left[rank] - rank)
    found["weights"] = together(model, some[rank], sample_weight=mass)
    breaking = clone(model).set_params(encoder=Breaking)
    found["network"] = together(breaking, some[rank])
    acts = {"callback": fail, "stop": lambda: True, "Ctrl-C": press}
    acts["Ctrl-C in a callback"] = press_in_callback
    for name, act in acts.items():
        on_second = OnEpochs(2, act if rank else lambda: False)
        longer = clone(model).set_params(max_iter=6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ended = together(longer, some[rank], callback=on_second)
        found[name] = ended if "error" in ended else answers(ended["model"], X[:50])
    found["in the end"] = answers(together(model, some[rank])["model"], X[:50])
    return found


def resumed(rank, folder, of=lambda part: part):
    X, model = numbers(), AutoencoderTransformer(2, **SHORT, noise=0.2)
    model, part = model.set_params(max_iter=6), of(cut(X)[rank])
    path = folder / "run.ckpt"
    with skae.checkpoint(path, every=0):
        ended = together(clone(model), part, callback=OnEpochs(4, kill))
        was_there = path.exists()
        again = together(model, part)["model"]
    whole = together(model, part)["model"]
    dist.barrier()
    return (
        ended["error"],
        was_there,
        path.exists(),
        answers(again, X),
        answers(whole, X),
    )


def die(rank):
    """The second process dies at its second epoch."""
    X, model = numbers(), AutoencoderTransformer(2, **SHORT)
    act = (lambda: os._exit(3)) if rank else (lambda: False)
    return together(model, cut(X)[rank], callback=OnEpochs(2, act))


def main(rank, folder):
    torch.set_num_threads(1)
    file = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=file, rank=rank, world_size=2)
    streamed = resumed(rank, folder, lambda part: by_chunks(part, None))
    ended = [resumed(rank, folder), streamed]
    found = spread(rank), wrong(rank), ended, large(rank, folder)
    (folder / f"found.{rank}").write_bytes(pickle.dumps(found))
    (folder / f"died.{rank}").write_bytes(pickle.dumps(die(rank)))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
