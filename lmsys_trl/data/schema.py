"""The columns of battles on disk."""

import pyarrow as pa

_TURNS = pa.list_(pa.string())
BATTLE_SCHEMA = pa.schema(
    {
        "id": pa.string(),  # as in the file
        "source": pa.string(),  # the name of the source it came from
        "language": pa.string(),  # as the source names it
        "model_a": pa.string(),
        "model_b": pa.string(),
        "prompt": _TURNS,  # one entry per turn; None where the file has null
        "response_a": _TURNS,
        "response_b": _TURNS,
        "vote": pa.list_(pa.float64()),  # the fractions of A, B and tie, or None
    }
)
PREPARED_SCHEMA = pa.schema(
    [
        *BATTLE_SCHEMA,
        pa.field("group", pa.string()),  # battles of one group are never split
        pa.field("fold", pa.int32()),  # None in validation, or where no folds were asked for
        pa.field("swapped_from", pa.string()),  # the id of the battle that this is a swapped copy of, or None
    ]
)
