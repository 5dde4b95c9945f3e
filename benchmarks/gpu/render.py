"""The results of parts as text. Imports nothing, so that tables are printed whatever has failed."""


def table(results: dict) -> str:
    """The rows of a part, with one column for each key, below its facts."""
    columns = dict.fromkeys(key for row in results["rows"] for key in row)
    columns = [key for key in columns if key not in ("took", "error")] + [k for k in ("took", "error") if k in columns]
    text = [[format_cell(row.get(column)) for column in columns] for row in results["rows"]]
    widths = [max(map(len, column)) for column in zip(columns, *text, strict=True)]
    lines = [f"== {results['part']}", *(f"   {name}: {value}" for name, value in results["facts"].items())]
    for cells in [columns, *text]:
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return "\n".join(lines)


def format_cell(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
