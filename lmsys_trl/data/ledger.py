"""What was read, changed and removed while a data set was made."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ..artifacts import file_fingerprint, write_json
from ..errors import NUM_SHOWN

RECORD_FILE, REMOVED_FILE = "prepare.json", "removed.parquet"  # in the folder of a data set


@dataclass
class Ledger:
    """What was read, changed and removed, by source."""

    origins: dict[str, dict] = field(default_factory=dict)  # source -> revision, license and hashes of its files
    num_rows: Counter = field(default_factory=Counter)  # source -> rows read
    changes: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))  # source -> change -> how often
    removed: list[dict] = field(default_factory=list)  # source, row (from 1), id, reason and the row as JSON
    unused: dict[str, list[str]] = field(default_factory=dict)  # source -> columns that are not read
    never_met: dict[str, list[str]] = field(default_factory=dict)  # source -> values of votes that no row has

    def notes(self) -> list[str]:
        """What a person should know of the rows that were read, a line each."""
        lines = []
        for source, num_rows in self.num_rows.items():
            reasons = Counter(entry["reason"] for entry in self.removed if entry["source"] == source)
            for reason, count in reasons.most_common(NUM_SHOWN):
                lines.append(f"{source}: {count} of {num_rows} rows removed: {reason}")
            for change, count in self.changes[source].most_common(NUM_SHOWN):
                lines.append(f"{source}: {change} ({count:,})")
            if self.unused.get(source):
                lines.append(f"{source}: columns that are not read: {', '.join(self.unused[source])}")
            if self.never_met.get(source):
                lines.append(f"{source}: values in votes that occur in no row: {', '.join(self.never_met[source])}")
        return lines

    def remove(self, source: str, row: int, battle_id: str | None, reason: str, content: dict) -> None:
        """Record a row that is not used."""
        text = json.dumps(content, default=str)
        self.removed.append({"source": source, "row": row, "id": battle_id, "reason": reason, "content": text})


def write_record(ledger: Ledger, provenance: dict, folder: Path) -> dict[str, str]:
    """
    Write `prepare.json`: how a data set was made, for machines.

    Args:
        ledger (`Ledger`): What was read and changed.
        provenance (`dict`): Command, configuration and versions.
        folder (`Path`): The data set.

    Returns:
        `dict[str, str]`: The hash of each parquet file of a configuration, by its path in the data set.
    """
    files = {
        path.relative_to(folder).as_posix(): file_fingerprint(path) for path in sorted(folder.glob("*/*.parquet"))
    }
    sources = {
        name: {**origin, "rows": ledger.num_rows[name], "changes": ledger.changes[name]}
        for name, origin in ledger.origins.items()
    }
    write_json(folder / RECORD_FILE, {"sources": sources, "sha256": files, **provenance})
    return files
