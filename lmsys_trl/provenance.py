"""What an artefact says of how it was made."""

import shlex
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("lmsys-trl", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets")


def provenance(configuration: dict) -> dict:
    """
    Args:
        configuration (`dict`): The values that were given, as returned by [`parse_config`].

    Returns:
        `dict`: The command, the configuration and the versions of the packages.
    """
    command = [f"recipes/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    return {
        "command": shlex.join(command),
        "configuration": configuration,
        "versions": {package: version(package) for package in PACKAGES},
    }


def file_fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
