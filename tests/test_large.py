import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import sparse

from skae import LargeTable
from skae.table import _large
from skae.table._large import as_large, n_kept


@pytest.fixture
def folder(tmp_path):
    """A folder of two Parquet files, one of them of three row groups."""
    tables = tmp_path / "tables"
    tables.mkdir()
    for i, size in enumerate((30, 4)):
        n = np.arange(i * 30, i * 30 + size)
        table = pa.table({"n": n, "half": n / 2, "word": [f"w{k % 3}" for k in n]})
        parquet.write_table(table, tables / f"{i}.parquet", row_group_size=10)
    return tables


def numbers(chunks):
    return np.concatenate([np.asarray(chunk["n"]) for chunk in chunks])


def test_parquet_is_read_in_its_order_a_chunk_at_a_time(folder):
    table = LargeTable(folder, chunk_rows=7)
    chunks = list(table.chunks())
    assert [len(chunk) for chunk in chunks] == [7, 3] * 3 + [4]
    np.testing.assert_array_equal(numbers(chunks), np.arange(34))
    assert table.n_total == 34
    assert LargeTable(folder / "1.parquet").n_total == 4


def test_row_groups_are_read_in_random_order(folder):
    orders = [
        numbers(LargeTable(folder).shuffled(np.random.default_rng(seed)))
        for seed in range(5)
    ]
    assert len({tuple(order) for order in orders}) > 1
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(34))


def test_columns_are_chosen(folder):
    chunk = next(LargeTable(folder, columns=["half", "n"]).chunks())
    assert chunk.column_names == ["half", "n"]


@pytest.mark.parametrize("kind", ["array", "memmap", "csr", "csc", "callable", "dask"])
def test_every_source_gives_all_rows_again_and_again(kind, tmp_path):
    X = np.where(np.arange(60).reshape(20, 3) % 4, 0.0, np.arange(60).reshape(20, 3))
    source = X
    if kind == "memmap":
        np.save(tmp_path / "x.npy", X)
        source = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind in ("csr", "csc"):
        source = sparse.coo_array(X).asformat(kind)
    elif kind == "callable":
        source = lambda: iter(np.array_split(X, 3))  # noqa: E731
    elif kind == "dask":
        array = pytest.importorskip("dask.array")
        source = array.from_array(X, chunks=(6, 2))
    table = LargeTable(source, chunk_rows=6)
    for _ in range(2):
        chunks = list(table.chunks())
        assert all(type(chunk) is np.ndarray for chunk in chunks)
        np.testing.assert_array_equal(np.concatenate(chunks), X)
    shuffled = np.concatenate(list(table.shuffled(np.random.default_rng(0))))
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(X, axis=0))
    assert table.n_total == (None if kind == "callable" else 20)


def test_chunks_of_wide_tables_have_fewer_rows(monkeypatch):
    monkeypatch.setattr(_large, "CHUNK_BYTES", 8 * 100 * 5)
    sizes = [len(chunk) for chunk in LargeTable(np.zeros((12, 100))).chunks()]
    assert sizes == [5, 5, 2]


def test_wide_tables_keep_fewer_rows():
    assert n_kept(10) == _large.KEPT_ROWS
    assert n_kept(1_000) * 1_000 * 8 <= _large.KEPT_BYTES
    assert n_kept(20_000) == _large.FEWEST_KEPT
    assert LargeTable(np.zeros((3, 10)), n_rows=50).n_kept(10) == 50
    assert LargeTable(np.zeros((3, 10)), n_rows=None).n_kept(10) == n_kept(10)


def test_answers_are_written_as_parquet(folder, tmp_path):
    def halves(chunk):
        return np.asarray(chunk["n"], dtype=float)[:, None] / [[2, 4]]

    target = tmp_path / "out" / "halves.parquet"
    target.parent.mkdir()
    written = LargeTable(folder, chunk_rows=7).apply(halves, target)
    table = parquet.read_table(target)
    assert table.column_names == ["x0", "x1"]
    np.testing.assert_array_equal(table["x1"], np.arange(34) / 4)
    assert written.n_total == 34
    assert [path.name for path in target.parent.iterdir()] == ["halves.parquet"]


def test_answers_keep_names_and_dtypes_of_frames(folder, tmp_path):
    written = LargeTable(folder).apply(lambda x: x.to_pandas(), tmp_path / "same")
    result = parquet.read_table(written.source).to_pandas()
    whole = parquet.read_table(folder).to_pandas()
    pd.testing.assert_frame_equal(result, whole)


def test_nothing_is_left_where_the_verb_fails(folder, tmp_path):
    def failing(chunk):
        if chunk["n"][0].as_py() > 10:
            raise RuntimeError("no")
        return chunk

    target = tmp_path / "elsewhere"
    target.mkdir()
    with pytest.raises(RuntimeError):
        LargeTable(folder).apply(failing, target / "x")
    assert not list(target.iterdir())


def test_what_is_large_is_told_from_what_is_not(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.zeros((20, 3)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert as_large(mapped) is None
    assert as_large(np.zeros((20, 3))) is None
    assert as_large(str(tmp_path)).source == str(tmp_path)
    monkeypatch.setattr(_large, "KEPT_ROWS", 10)
    assert as_large(mapped).source is mapped
    assert as_large(tmp_path).source == tmp_path
    table = LargeTable(mapped)
    assert as_large(table) is table


def test_wrong_parameters_are_refused(tmp_path):
    for wrong in (1, "all", 2.5):
        with pytest.raises(ValueError, match="but expected an integer of at least 2"):
            LargeTable(np.zeros((3, 2)), n_rows=wrong)
    with pytest.raises(ValueError, match="got source=5, but expected a path"):
        LargeTable(5)
    with pytest.raises(ValueError, match="there is nothing there"):
        LargeTable(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="without rows"):
        LargeTable(np.zeros((0, 2))).apply(np.abs, tmp_path / "x")
    assert "nowhere" not in repr(LargeTable(np.zeros((3, 2))))
