"""Secrets in texts: found by their form, and as values of this process's environment."""

import os
import re
from typing import Any

REDACTED = "[secret]"
# Of a URL what comes before the host, and tokens of the Hub, Kaggle and Weights & Biases.
FORMS = (
    (re.compile(r"(\w:/+)[^/\s@]+@"), rf"\1{REDACTED}@"),
    (re.compile(r"\b(hf_|KGAT_|wandb_v1_)\w{16,}"), REDACTED),
)
NAMES = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD)$")  # of variables
MIN_LENGTH = 8  # of a value, below which it may be any word


def without_secrets(value: Any) -> Any:
    """A text, or all texts in lists and dictionaries, with `[secret]` in the place of what looks like one."""
    if isinstance(value, dict):
        return {key: without_secrets(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_secrets(entry) for entry in value]
    if not isinstance(value, str):
        return value
    for secret in secrets_of_environment():
        value = value.replace(secret, REDACTED)
    for form, replacement in FORMS:
        value = form.sub(replacement, value)
    return value


def secrets_of_environment() -> list[str]:
    """The values of environment variables whose names say that they are secret, the longest first."""
    found = {value for name, value in os.environ.items() if NAMES.search(name) and len(value) >= MIN_LENGTH}
    return sorted(found, key=len, reverse=True)
