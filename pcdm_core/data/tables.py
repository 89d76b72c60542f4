"""Parquet files of encoded images."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from pcdm_core.data.base import ImageSource, Item, label_of
from pcdm_core.data.decode import decode_image
from pcdm_core.data.extras import load_extra

__all__ = ["IMAGE_COLUMNS", "LABEL_COLUMNS", "ParquetSource", "first_of"]

IMAGE_COLUMNS: Final = ("image", "img")
LABEL_COLUMNS: Final = ("label", "fine_label")
# Rows in memory at a time. Small, for a row may hold a photograph.
_ROWS: Final = 64


class ParquetSource(ImageSource):
    """Rows of one or many parquet files, file after file; `Item.source` is `path#row`.

    The image column (`image` or `img`) holds encoded files, either as bytes or as the struct of Hugging Face datasets
    (`{"bytes", "path"}`, of which the path is ignored: a table must not name files to be read).

    Args:
        paths: The files, in the order in which their rows are counted.

    Raises:
        ValueError: A file is not parquet, or lacks a usable image column.
        ModuleNotFoundError: pyarrow is not installed.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._rows = [_check(path) for path in self._paths]

    def __len__(self) -> int:
        return sum(self._rows)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the rows `start <= i < stop`, opening only the files that hold them."""
        for path, rows, end in zip(self._paths, self._rows, accumulate(self._rows), strict=True):
            first = end - rows
            if first < stop and start < end:
                yield from _walk(path, max(0, start - first), min(rows, stop - first))


def first_of(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted columns that there is."""
    return next((name for name in wanted if name in names), None)


def _open(path: Path) -> Any:
    parquet = load_extra("pyarrow.parquet", "Reading parquet files")
    try:
        return parquet.ParquetFile(path)
    except load_extra("pyarrow", "Reading parquet files").ArrowException as error:
        raise _broken(path, error) from error


def _check(path: Path) -> int:
    """Count the rows of one file, having made sure that its image column can be read."""
    types = load_extra("pyarrow.types", "Reading parquet files")
    with _open(path) as file:
        schema, rows = file.schema_arrow, int(file.metadata.num_rows)
    column = first_of(schema.names, IMAGE_COLUMNS)
    if column is None:
        wanted = " or ".join(f'"{name}"' for name in IMAGE_COLUMNS)
        raise ValueError(f"{path}: needs a column {wanted} of encoded images; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    if types.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), kind)
    if not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise ValueError(
            f'{path}: column "{column}" must hold encoded images, as binary or as a struct with binary "bytes"; '
            f"it is {schema.field(column).type}"
        )
    return rows


def _walk(path: Path, start: int, stop: int) -> Iterator[Item]:
    """Read the rows `start <= row < stop` of one file, skipping the row groups before and after."""
    errors = load_extra("pyarrow", "Reading parquet files").ArrowException
    with _open(path) as file:
        names = file.schema_arrow.names
        image_column, label_column = first_of(names, IMAGE_COLUMNS), first_of(names, LABEL_COLUMNS)
        columns = [column for column in (image_column, label_column) if column is not None]
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [g for g, end in enumerate(ends) if end - sizes[g] < stop and start < end]
        if not groups:
            return
        row = ends[groups[0]] - sizes[groups[0]]
        batches = file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=columns)
        while row < stop:
            try:
                batch = next(batches)
            except (errors, OSError) as error:
                raise _broken(path, error) from error
            skipped = max(0, start - row)
            cells = batch.slice(skipped, max(0, stop - row - skipped))
            for offset, cell in enumerate(cells.to_pylist()):
                name = f"{path}#{row + skipped + offset}"
                yield Item(
                    name, decode_image(_encoded(cell[image_column]), name=name), label_of(cell.get(label_column))
                )
            row += batch.num_rows


def _encoded(cell: Any) -> bytes:
    """The bytes of an image cell; none for a null, which is then refused as an empty image."""
    return (cell.get("bytes") if isinstance(cell, dict) else cell) or b""


def _broken(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})")
