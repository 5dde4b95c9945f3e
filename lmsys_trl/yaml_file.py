"""A YAML file -> its keys and values, or what is wrong with it."""

from pathlib import Path

import yaml

from .errors import UserError


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last, and aliases, with which files explode."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read. Write the value again", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key) for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {name} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """
    Read lines of `key: value`.

    Raises:
        UserError: If it is not such a file.
    """
    try:
        with path.open(encoding="utf-8") as file:
            values = yaml.load(file, _UniqueKeys) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a YAML file in UTF-8: {error}. Save it as UTF-8") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:  # ValueError: an impossible date, say
        raise UserError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected lines of `key: value`")
    return values
