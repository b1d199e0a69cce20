"""What a training step costs, and how fast a fitted encoder maps rows.

Every trainer gets the same network (128-64 mirrored, ReLU, a code of a quarter of the
columns, at most 16), batches of single-precision normal rows of the same size and the
same number of epochs, on the CPU; "skae default" has SiLU, the linear path, noise and
validation rows besides. The time per step is the difference of a long and a short fit
over the difference of their steps, so that what a fit costs once drops out, and the
median of some repeats with the trainers in turn. "GEMM floor" is the time of the matrix
products of the forward and backward passes alone. `transform` is timed against the
bare encoder. The peers come with ``pip install "skae[benchmark]"``::

    python benchmarks/speed.py [--columns 10,50] [--batches 64,256] [--trainers A,B]
"""

from __future__ import annotations

import itertools
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from _common import (
    TextTable,
    ignore_convergence,
    mirrored,
    network,
    seconds_of,
    train_textbook,
)
from sklearn.neural_network import MLPRegressor
from torch import nn

from skae import AutoencoderTransformer

CHUNK = 2048  # rows
JUDGING_SHARE = 0.1  # what "auto" is for so many rows
FLOOR = "GEMM floor"
Times = dict[str, float]


@dataclass(frozen=True)
class Task:
    """What every trainer is given."""

    X: np.ndarray
    n_components: int
    batch_size: int

    @classmethod
    def of(cls, n_columns: int, batch_size: int, n_batches: int) -> Task:
        X = normal_rows(n_batches * batch_size, n_columns)
        return cls(X, code_width(n_columns), batch_size)


Trainer = Callable[[Task, int], int]  # trains some epochs, returns the rows per epoch


def normal_rows(n_rows: int, n_columns: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((n_rows, n_columns), dtype=np.float32)


def code_width(n_columns: int) -> int:
    return min(16, max(1, n_columns // 4))


# -------------------------------------------------------------------------- trainers


def skae_plain(task: Task, n_epochs: int) -> int:
    """Train the plain network on the plain squared error."""
    AutoencoderTransformer(
        task.n_components,
        linear_path=False,
        activation="relu",
        noise=0.0,
        weight_decay=0.0,
        early_stopping=False,
        validation_fraction=None,
        batch_size=task.batch_size,
        max_iter=n_epochs,
        random_state=0,
        device="cpu",
    ).fit(task.X)
    return len(task.X)


def skae_default(task: Task, n_epochs: int) -> int:
    """Train as skae comes, but for the batches and the number of epochs."""
    AutoencoderTransformer(
        task.n_components,
        early_stopping=False,
        validation_fraction=JUDGING_SHARE,
        batch_size=task.batch_size,
        max_iter=n_epochs,
        random_state=0,
        device="cpu",
    ).fit(task.X)
    return len(task.X) - round(JUDGING_SHARE * len(task.X))


def skorch(task: Task, n_epochs: int) -> int:
    from skorch import NeuralNetRegressor

    NeuralNetRegressor(
        network(task.X.shape[1], task.n_components),
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=n_epochs,
        batch_size=task.batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(task.X, task.X)
    return len(task.X)


def pyod(task: Task, n_epochs: int) -> int:
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(
        hidden_neuron_list=list(mirrored(task.n_components)[:3]),
        batch_norm=False,
        dropout_rate=0.0,
        preprocessing=False,
        epoch_num=n_epochs,
        batch_size=task.batch_size,
        verbose=0,
    ).fit(task.X)
    return len(task.X)


def mlp_regressor(task: Task, n_epochs: int) -> int:
    model = MLPRegressor(
        hidden_layer_sizes=mirrored(task.n_components),
        batch_size=task.batch_size,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs + 1,
        random_state=0,
    )
    with ignore_convergence():
        model.fit(task.X, task.X)
    return len(task.X)


def data_loader(task: Task, n_epochs: int) -> int:
    """Run the loop of torch's tutorials."""
    train_textbook(
        task.X,
        task.n_components,
        batch_size=task.batch_size,
        n_epochs=n_epochs,
        seed=0,
    )
    return len(task.X)


def bare_torch(task: Task, n_epochs: int) -> int:
    """Run the shortest loop: rows of a tensor in memory, nothing kept or watched."""
    torch.manual_seed(0)
    rows = torch.from_numpy(task.X)
    model = network(task.X.shape[1], task.n_components)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(n_epochs):
        for part in torch.randperm(len(rows)).split(task.batch_size):
            batch = rows[part]
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch), batch).backward()
            optimizer.step()
    return len(rows)


TRAINERS: dict[str, Trainer] = {
    "skae plain": skae_plain,
    "skae default": skae_default,
    "skorch": skorch,
    "pyod": pyod,
    "MLPRegressor": mlp_regressor,
    "DataLoader": data_loader,
    "bare torch": bare_torch,
}


# -------------------------------------------------------------------- training steps


def compare_steps(arguments: Namespace) -> dict[str, Times]:
    """Print the microseconds per step in every setting, and return them."""
    names = [*arguments.trainers, FLOOR]
    print("\nmicroseconds per training step")
    table = TextTable("columns x batch", *[(name, ".0f") for name in names])
    results = {}
    for setting in itertools.product(arguments.columns, arguments.batches):
        label = "{} x {}".format(*setting)
        results[label] = step_times(Task.of(*setting, arguments.steps), arguments)
        table.row(label, *results[label].values())
    return results


def step_times(task: Task, arguments: Namespace) -> Times:
    """Return the microseconds per step of each trainer, and of the products alone."""
    times: dict[str, list[float]] = {name: [] for name in [*arguments.trainers, FLOOR]}
    for _ in range(arguments.repeats):
        for name in arguments.trainers:
            times[name].append(step_time(TRAINERS[name], task, arguments.epochs))
        times[FLOOR].append(floor_time(task))
    return {name: median(values) for name, values in times.items()}


def step_time(trainer: Trainer, task: Task, n_epochs: int) -> float:
    """Return the microseconds per step by which a long fit exceeds a short one."""
    rows_per_epoch = 0

    def train(n_epochs: int) -> None:
        nonlocal rows_per_epoch
        rows_per_epoch = trainer(task, n_epochs)

    short = seconds_of(lambda: train(1))
    long = seconds_of(lambda: train(1 + n_epochs))
    n_steps = n_epochs * math.ceil(rows_per_epoch / task.batch_size)
    return 1e6 * (long - short) / n_steps


def floor_time(task: Task) -> float:
    """Return the microseconds of all matrix products of a step, each timed alone."""
    total = 0.0
    n_rows, n_columns = task.batch_size, task.X.shape[1]
    widths = (n_columns, *mirrored(task.n_components), n_columns)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        total += product_time(n_rows, inputs, outputs)  # forward
        total += product_time(outputs, n_rows, inputs)  # gradient of the weights
        if i > 0:  # the rows themselves need no gradient
            total += product_time(n_rows, outputs, inputs)
    return total


def product_time(n_rows: int, n_inner: int, n_columns: int, n_calls: int = 50) -> float:
    """Return the microseconds of a matrix product in single precision."""
    left, right = torch.randn(n_rows, n_inner), torch.randn(n_inner, n_columns)
    result = torch.empty(n_rows, n_columns)

    def multiply() -> None:
        for _ in range(n_calls):
            torch.mm(left, right, out=result)

    return 1e6 * median(seconds_of(multiply) for _ in range(3)) / n_calls


def print_ratios(name: str, results: dict[str, Times]) -> None:
    """Print the time per step of one trainer over that of each other."""
    others = [other for other in next(iter(results.values())) if other != name]
    print(f"\ntime per step, {name} / peer")
    table = TextTable("columns x batch", *[(other, ".2f") for other in others])
    ratios = []
    for label, times in results.items():
        ratios.append([times[name] / times[other] for other in others])
        table.row(label, *ratios[-1])
    table.row("median", *map(median, zip(*ratios, strict=True)))


# ------------------------------------------------------------------------- transform


def compare_transform(arguments: Namespace) -> None:
    """Print the rows per second of `transform` and of the encoder on its own."""
    print(f"\ntransform of float32 rows, thousands per second; chunks of {CHUNK} rows")
    table = TextTable(
        "model, columns",
        "rows",
        "transform",
        "bare encoder",
        "bare in chunks",
        ("transform / faster bare", ".2f"),
    )
    for linear_path, n_columns in itertools.product((False, True), arguments.columns):
        n_rows = min(arguments.rows, 50 * arguments.rows // n_columns)
        X = normal_rows(n_rows, n_columns)
        model = AutoencoderTransformer(
            code_width(n_columns), linear_path=linear_path, max_iter=1, device="cpu"
        ).fit(X[:CHUNK])
        rates = transform_rates(model, X, arguments.repeats)
        label = f"skae {'default' if linear_path else 'plain'}, {n_columns}"
        table.row(label, n_rows, *rates / 1e3, rates[0] / rates[1:].max())


def transform_rates(
    model: AutoencoderTransformer, X: np.ndarray, repeats: int
) -> np.ndarray:
    """Return rows per second: `transform`, the bare encoder, and it in chunks."""
    encoder, rows = model.module_.encoder, torch.from_numpy(X)

    def in_chunks() -> torch.Tensor:
        return torch.cat([encoder(part) for part in rows.split(CHUNK)])

    ways = [lambda: model.transform(X), lambda: encoder(rows), in_chunks]
    with torch.no_grad():
        times = [[seconds_of(way) for way in ways] for _ in range(repeats + 1)]
    return len(X) / np.median(times[1:], axis=0)  # the first round warms up


# ------------------------------------------------------------------------------- run


def parse_arguments() -> Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def trainers(text: str) -> list[str]:
        names = text.split(",")
        if not set(names) <= set(TRAINERS):
            raise ValueError(text)
        return names

    parser = ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--columns", type=numbers, default=[10, 50, 500], help="widths of the table")
    add("--batches", type=numbers, default=[64, 256, 1024], help="rows per step")
    add("--trainers", type=trainers, default=list(TRAINERS), help=",".join(TRAINERS))
    add("--steps", type=int, default=40, help="steps per epoch")
    add("--epochs", type=int, default=10, help="epochs between the short and long fit")
    add("--repeats", type=int, default=3, help="times that all is measured")
    add("--rows", type=int, default=200_000, help="rows to transform; fewer if wide")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}")
    for name in arguments.trainers:  # imports and first calls are not timed
        TRAINERS[name](Task.of(8, 64, 2), 1)
    results = compare_steps(arguments)
    compare_transform(arguments)
    for name in arguments.trainers:
        if name.startswith("skae"):
            print_ratios(name, results)


if __name__ == "__main__":
    main()
