"""Files of rows, compressed or not -> rows as dictionaries. Nothing here knows what a battle is."""

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..errors import UserError

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
# What the readers raise where a file's content is not what its name says.
READ_ERRORS = (
    csv.Error, OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError,
    pa.ArrowException,
)  # fmt: skip

csv.field_size_limit(2**31 - 1)


class DataFile(NamedTuple):
    """A file of rows, or a member of a zip archive."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        return self.member or self.path.name

    @property
    def suffix(self) -> str:
        return Path(self.name.lower().removesuffix(".gz")).suffix


def find_files(path: Path, pattern: str | None = None) -> list[DataFile]:
    """
    The files of rows at a path, sorted by name.

    Args:
        path (`Path`): A CSV, JSON, JSONL or parquet file, gzipped or not; a zip archive or a folder with such files.
        pattern (`str`, *optional*): Which files of an archive or folder, such as `train*.csv`.

    Raises:
        UserError: If there is none, or if there are several and no pattern.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if path.is_dir():
        files = [DataFile(file) for file in sorted(path.rglob("*")) if file.is_file()]
        names = [file.path.relative_to(path).as_posix() for file in files]
    elif path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if not name.startswith("__MACOSX/"))
        except READ_ERRORS as error:
            raise UserError(f"{path}: not a zip archive: {error}") from error
        files = [DataFile(path, name) for name in names]
    else:
        files, names, pattern = [DataFile(path)], [path.name], None
    readable = [(file, name) for file, name in zip(files, names, strict=True) if file.suffix in SUFFIXES]
    matching = [file for file, name in readable if pattern is None or fnmatch(name, pattern)]
    first_names = ", ".join(name for _, name in readable[:10])
    if not matching:
        problem = f"no file is named {pattern}" if pattern else f"no file ends in {', '.join(SUFFIXES)}"
        raise UserError(f"{path}: {problem}" + (f". There are: {first_names}" if first_names else ""))
    if len(matching) > 1 and pattern is None:
        raise UserError(f"{path}: holds {len(matching)} files. Choose with file, a name or a pattern: {first_names}")
    return matching


def read_rows(file: DataFile) -> Iterator[Any]:
    """
    Read a file row by row.

    Yields:
        First the names of the columns, then for each row a tuple: a `dict`, and what is wrong with the row, or None.
        CSV cells are text, other files give what they hold. Bytes that are not UTF-8 become lone surrogates.
    """
    readers = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    size = file.path.stat().st_size
    with ExitStack() as stack:
        compressed = stack.enter_context(file.path.open("rb"))
        binary: IO[bytes] = compressed
        if file.member is not None:
            archive = stack.enter_context(zipfile.ZipFile(compressed))
            binary = stack.enter_context(archive.open(file.member))
        if file.name.lower().endswith(".gz"):
            binary = cast(IO[bytes], stack.enter_context(gzip.open(binary)))
        bar = stack.enter_context(tqdm(total=size, unit="B", unit_scale=True, desc=file.name, disable=None))
        for number, row in enumerate(readers[file.suffix](binary)):
            yield row
            if number % 1000 == 0:
                bar.update(compressed.tell() - bar.n)


def _read_csv(binary: IO[bytes]) -> Iterator[Any]:
    reader = csv.DictReader(io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline=""), strict=True)
    columns = reader.fieldnames or []
    yield columns
    for row in reader:
        if None in row or None in row.values():
            num_cells = len(columns) + len(row.pop(None, [])) - list(row.values()).count(None)
            yield row, f"cells are missing or too many: {num_cells} where the header has {len(columns)}"
        else:
            yield row, None


def _read_jsonl(binary: IO[bytes]) -> Iterator[Any]:
    columns = None
    for line in io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline="\n"):
        if not line.strip():
            continue
        try:
            row, problem = json.loads(line), None
        except (ValueError, RecursionError) as error:
            row, problem = {"line": line}, f"not JSON: {error}"
        if not isinstance(row, dict):
            row, problem = {"line": line}, "not a JSON object"
        if columns is None:
            columns = list(row)
            yield columns
        yield row, problem
    if columns is None:
        yield []


def _read_json(binary: IO[bytes]) -> Iterator[Any]:
    try:
        rows = json.loads(binary.read().decode("utf-8-sig", "surrogateescape"))
    except RecursionError as error:
        raise UserError("nested too deeply") from error
    if not isinstance(rows, list):
        raise UserError("expected a list of objects, one a row")
    yield list(rows[0]) if rows and isinstance(rows[0], dict) else []
    for row in rows:
        yield (row, None) if isinstance(row, dict) else ({"row": row}, "not a JSON object")


def _read_parquet(binary: IO[bytes]) -> Iterator[Any]:
    # Parquet is read from its end: a compressed file must be decompressed first.
    seekable = isinstance(binary, io.BufferedReader)
    file = pq.ParquetFile(binary if seekable else io.BytesIO(binary.read()))
    yield file.schema_arrow.names
    for batch in file.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            yield row, None
