"""Each symptom of the troubleshooting page is a message of the project."""

import ast
import re

from helpers.run import REPOSITORY

PAGE = REPOSITORY / "docs" / "troubleshooting.md"
OF_OTHERS = ("CUDA out of memory",)


def messages() -> str:
    """The text of all strings in the code, a line each, with nothing where values are put in."""
    lines = []
    for folder in ("lmsys_trl", "recipes"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    lines.append(" ".join(node.value.split()))
    return "\n".join(lines)


def test_symptoms_are_messages():
    rows = re.findall(r"^\| (`.+?) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    symptoms = [symptom for row in rows for symptom in re.findall(r"`([^`]+)`", row) if symptom not in OF_OTHERS]
    assert len(symptoms) > 30
    known = messages()
    pieces = [piece.strip(" :") for symptom in symptoms for piece in symptom.split("...")]
    assert [piece for piece in pieces if piece not in known] == []
