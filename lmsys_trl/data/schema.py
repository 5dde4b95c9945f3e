"""The columns of battles on disk."""

from datasets import Features, List, Value

BATTLE_FEATURES = Features(
    {
        "id": Value("string"),  # as in the file
        "source": Value("string"),  # the name of the source it came from
        "language": Value("string"),  # as the source names it
        "model_a": Value("string"),
        "model_b": Value("string"),
        "prompt": List(Value("string")),  # one entry per turn; None where the file has null
        "response_a": List(Value("string")),
        "response_b": List(Value("string")),
        "vote": List(Value("float64")),  # the fractions of A, B and tie, or None
    }
)
PREPARED_FEATURES = Features(
    {
        **BATTLE_FEATURES,
        "group": Value("string"),  # battles of one group are never split
        "fold": Value("int32"),  # None in validation, or where no folds were asked for
        "swapped_from": Value("string"),  # the id of the battle that this is a swapped copy of, or None
    }
)
