"""Files of rows, compressed or not -> rows as dictionaries. Nothing here knows what a battle is."""

import csv
import gzip
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..battle import replace_surrogates
from ..errors import UserError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
DELIMITERS = ",;\t|"
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


STANDARD_INPUT = DataFile(Path("standard input"))  # JSONL, a row as soon as its line is there


def find_files(path: Path, pattern: str | None = None) -> list[DataFile]:
    """
    The files of rows at a path, sorted by name.

    Args:
        path (`Path`): A CSV, TSV, JSON, JSONL or parquet file, gzipped or not; a zip archive or a folder of such.
        pattern (`str`, *optional*): Which files of an archive or folder, such as `train*.csv`.

    Raises:
        UserError: If there is none, or if there are several and no pattern.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: is a pipe or a device. Give a file")
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


class _Bounded(io.BufferedIOBase):
    """A stream that ends with an error where it becomes too large: a few MB can be compressed from all of a memory."""

    def __init__(self, stream: IO[bytes], max_bytes: int):
        self._stream, self._max_bytes, self._num_bytes = stream, max_bytes, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(2**20), b""))
        chunk = self._stream.read(size)
        self._num_bytes += len(chunk)
        if self._num_bytes > self._max_bytes:
            raise UserError(
                f"is compressed, and larger than {self._max_bytes / 1e9:g} GB without compression. Set max_size_gb to "
                "read it anyway"
            )
        return chunk

    read1 = read


def read_rows(file: DataFile, max_size_gb: float, max_nesting: int) -> Iterator[Any]:
    """
    Read a file row by row.

    Args:
        file (`DataFile`): The file.
        max_size_gb (`float`): What a compressed file may become.
        max_nesting (`int`): How deep lists and objects of a row may be nested.

    Yields:
        First the names of the columns, then for each row a tuple: a `dict`, and what is wrong with the row, or None.
        CSV cells are text, other files give what they hold. Bytes that are not UTF-8 become lone surrogates.

    Raises:
        UserError: Whatever a reader raises at unexpected bytes.
    """
    number = -1  # the first item holds the names of the columns
    try:
        for number, item in enumerate(_read(file, max_size_gb)):
            if number and _is_deeper(item[0], max_nesting):
                # Without its content, which ends in errors wherever it is written.
                item = {}, f"nested more than {max_nesting} levels, see max_nesting"
            yield item
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from error
    except READ_ERRORS as error:
        kind = "".join(file.path.suffixes).lstrip(".").upper()
        raise UserError(f"{file.path}: damaged, or not a {kind} file: {error} after row {max(number, 0)}") from error


def as_json(row: dict) -> str:
    """
    A row as a line of ASCII that every reader of JSON takes: at any depth NaN and infinities, which JSON does not
    have, become null, and lone surrogates U+FFFD.
    """
    text, _ = replace_surrogates(json.dumps(row, ensure_ascii=False, default=str))
    return json.dumps(json.loads(text, parse_constant=lambda _: None))


def _read(file: DataFile, max_size_gb: float) -> Iterator[Any]:
    """As [`read_rows`], with what readers raise, and rows of any depth."""
    readers = {
        ".csv": _read_csv, ".tsv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet
    }  # fmt: skip
    if file == STANDARD_INPUT:
        with open(sys.stdin.fileno(), "rb", closefd=False) as lines:
            yield from _read_jsonl(lines)
        return
    size = file.path.stat().st_size
    with ExitStack() as stack:
        compressed = stack.enter_context(file.path.open("rb"))
        binary: IO[bytes] = compressed
        if file.member is not None:
            archive = stack.enter_context(zipfile.ZipFile(compressed))
            binary = stack.enter_context(archive.open(file.member))
        if file.name.lower().endswith(".gz"):
            binary = cast(IO[bytes], stack.enter_context(gzip.open(binary)))
        if binary is not compressed:
            binary = cast(IO[bytes], _Bounded(binary, int(max_size_gb * 10**9)))
        bar = stack.enter_context(tqdm(total=size, unit="B", unit_scale=True, desc=file.name, disable=None))
        for number, row in enumerate(readers[file.suffix](binary)):
            yield row
            if number % 1000 == 0:
                bar.update(compressed.tell() - bar.n)


def _is_deeper(row: dict, max_nesting: int) -> bool:
    level: list = [row]
    for _ in range(max_nesting):
        level = [entry for value in level for entry in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, (dict, list))]
        if not level:
            return False
    return True


def _read_csv(binary: IO[bytes]) -> Iterator[Any]:
    text = io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline="")
    header = text.readline()
    # The delimiter that makes most columns of the header, commas first.
    delimiter = max(DELIMITERS, key=lambda char: len(next(csv.reader([header], delimiter=char), [])))
    reader = csv.reader(chain([header], text), delimiter=delimiter, strict=True)
    columns = next(reader, [])
    yield columns
    for cells in reader:
        row = dict(zip(columns, cells, strict=False))
        if len(cells) == len(columns):
            yield row, None
        elif cells:  # an empty line is no row
            problem = f"cells are missing or too many: {len(cells)} where the header has {len(columns)}"
            yield dict.fromkeys(columns) | row, problem


def _read_jsonl(binary: IO[bytes]) -> Iterator[Any]:
    columns = None
    text = io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline="\n")  # closes the file when it is gone
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row, problem = json.loads(line), None
        except RecursionError:
            row, problem = {"line": line}, f"not JSON: line {number} is nested too deeply"
        except ValueError as error:
            row, problem = {"line": line}, f"not JSON: line {number}, {getattr(error, 'msg', error)}"
        if not isinstance(row, dict):
            row, problem = {"line": line}, f"not a JSON object: line {number}"
        if columns is None:
            columns = list(row) if problem is None else []
            yield columns
        yield row, problem
    if columns is None:
        yield []


def _read_json(binary: IO[bytes]) -> Iterator[Any]:
    content = binary.read()
    try:
        rows = json.loads(content.decode("utf-8-sig", "surrogateescape"))
    except RecursionError as error:
        raise UserError("nested too deeply") from error
    except ValueError as error:
        if not str(error).startswith("Extra data"):
            raise
        yield from _read_jsonl(io.BytesIO(content))  # lines of JSON under another name
        return
    if isinstance(rows, dict):
        rows = _rows_of_columns(rows) or [rows]
    if not isinstance(rows, list):
        raise UserError("expected a list of objects, one a row")
    yield list(rows[0]) if rows and isinstance(rows[0], dict) else []
    for row in rows:
        yield (row, None) if isinstance(row, dict) else ({"row": row}, "not a JSON object")


def _rows_of_columns(table: dict) -> list[dict] | None:
    """The rows of an object of columns, as pandas writes them, each a list or an object by the numbers of rows."""
    columns = [list(column.values()) if isinstance(column, dict) else column for column in table.values()]
    keys = {tuple(column) if isinstance(column, dict) else None for column in table.values()}
    if len(keys) != 1 or not all(isinstance(column, list) for column in columns) or len({*map(len, columns)}) != 1:
        return None
    return [dict(zip(table, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _read_parquet(binary: IO[bytes]) -> Iterator[Any]:
    # Parquet is read from its end: a compressed file must be decompressed first.
    seekable = isinstance(binary, io.BufferedReader)
    file = pq.ParquetFile(binary if seekable else io.BytesIO(binary.read()))
    yield file.schema_arrow.names
    for batch in file.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            yield row, None
