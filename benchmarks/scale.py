"""Tables larger than memory: what a fit, and each verb, costs for a row more.

A Parquet folder is written, chunk by chunk, and a table of each length is fitted and
asked in a process of its own, whose peak of memory is read::

    python benchmarks/scale.py [--rows 100000,1000000,10000000] [--columns 20]
        [--folder FOLDER] [--picture scale.png]

Columns are numbers about a curved surface of three dimensions, one in ten of them of
levels. Seconds are those of the processor, on all its threads. A fit at once, of as
many rows as are kept, stands beside.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from skae import AutoencoderTransformer, LargeTable

FILE_ROWS, GROUP_ROWS = 1_000_000, 131_072
KEPT_ROWS = 1_000_000


def rows(n_rows: int, n_columns: int, seed: int) -> pd.DataFrame:
    """Draw rows: numbers with a few holes, and levels."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(3, n_columns))
    X = np.tanh(rng.normal(size=(n_rows, 3)) @ mix)
    X += 0.1 * rng.normal(size=X.shape)
    table = pd.DataFrame(X, columns=[f"x{i}" for i in range(n_columns)])
    for name in table.columns[:: max(n_columns // 10, 1)][1:]:
        table[name] = np.array(["low", "middle", "high"])[np.digitize(X[:, 0], [0, 1])]
    return table


def write(folder: Path, n_rows: int, n_columns: int) -> None:
    for i, start in enumerate(range(0, n_rows, FILE_ROWS)):
        table = rows(min(FILE_ROWS, n_rows - start), n_columns, i)
        parquet.write_table(
            pa.Table.from_pandas(table, preserve_index=False),
            folder / f"{i:05}.parquet",
            row_group_size=GROUP_ROWS,
        )


def peak() -> float:
    """Return the most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(folder: Path) -> dict[str, Any]:
    """Fit, ask each verb, and return seconds and peaks."""
    found: dict[str, Any] = {"imported": peak()}
    table = LargeTable(folder)
    total, fresh = table.n_total, rows(5_000, len(next(table.chunks()).columns), 10**6)

    def timed(name: str, function: Any) -> Any:
        began = time.process_time()
        result = function()
        found[name] = (time.process_time() - began) / total * 1e6
        found[f"{name} peak"] = peak()
        return result

    timed("statistics", lambda: AutoencoderTransformer(3, max_iter=0).fit(table))
    model = timed("fit", lambda: AutoencoderTransformer(3, random_state=0).fit(table))
    found["R2"] = model.score(fresh)
    with tempfile.TemporaryDirectory() as out:
        codes = Path(out) / "codes"
        timed("transform", lambda: table.apply(model.transform, codes))
        verb = model.inverse_transform
        timed("decode", lambda: LargeTable(codes).apply(verb, Path(out) / "rows"))
        codes.unlink()
        verb = model.score_samples
        timed("score_samples", lambda: table.apply(verb, Path(out) / "scores"))
    return found


def in_memory(folder: Path, n_rows: int) -> dict[str, Any]:
    """Fit as many rows at once."""
    whole = pd.concat([chunk.to_pandas() for chunk in _first(folder, n_rows)])
    fresh = rows(5_000, whole.shape[1], 10**6)
    began = time.process_time()
    model = AutoencoderTransformer(3, random_state=0).fit(whole)
    seconds = time.process_time() - began
    return {"rows per second": n_rows / seconds, "R2": model.score(fresh)}


def _first(folder: Path, n_rows: int) -> Any:
    for chunk in LargeTable(folder).chunks():
        yield chunk[:n_rows]
        n_rows -= len(chunk)
        if n_rows <= 0:
            return


def apart(*arguments: str) -> dict[str, Any]:
    """Run this file in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout)


def draw(found: dict[int, dict[str, Any]], path: str) -> None:
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name in ("statistics", "fit", "transform", "decode", "score_samples"):
        left.plot(list(found), [f[name] for f in found.values()], "o-", label=name)
        peaks = [f[f"{name} peak"] for f in found.values()]
        right.plot(list(found), peaks, "o-", label=name)
    left.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds per million")
    right.set(xscale="log", xlabel="rows", ylabel="peak memory, MB", ylim=(0, None))
    left.legend()
    fig.savefig(path, dpi=120)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--picture")
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--in-memory", type=int)
    arguments = parser.parse_args()
    if arguments.measure:
        n_rows = arguments.in_memory
        of = arguments.measure
        print(json.dumps(in_memory(of, n_rows) if n_rows else measure(of)))
        return
    if arguments.folder:
        Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    found = {}
    for n_rows in map(int, arguments.rows.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            write(Path(folder), n_rows, arguments.columns)
            found[n_rows] = apart("--measure", folder)
            beside = str(min(n_rows, KEPT_ROWS))
            at_once = apart("--measure", folder, "--in-memory", beside)
            found[n_rows] |= {f"{k}, at once": v for k, v in at_once.items()}
    for name in next(iter(found.values())):
        print(f"{name:26}", *(f"{f[name]:12.4g}" for f in found.values()))
    if arguments.picture:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
