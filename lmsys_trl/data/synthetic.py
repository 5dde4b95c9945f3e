"""
Synthetic battles with known vote probabilities.

Simulated models of different skill do sums, spell words, make lists and follow formats. Their answers have obvious
faults (a refusal, off topic, the wrong language, truncated, the format ignored) or subtle ones (a wrong digit, a
missed item). The probabilities of a vote depend on the faults, so that the best possible log loss is known.
"""

import json
import math
from random import Random

from ..battle import WINNERS, first_prompt, vote_for, winner_of
from ..errors import UserError
from .columns import TURN_COLUMNS, WINNER_COLUMNS

# How much a fault lowers the log odds of winning.
SEVERITY = {
    "refusal": 8.0,
    "off_topic": 8.0,
    "wrong_language": 7.0,
    "truncated": 6.0,
    "format_ignored": 4.0,
    "wrong_detail": 2.5,
    "missed_item": 2.0,
}
# How often each obvious fault occurs.
OBVIOUS_FAULTS = {"refusal": 20, "off_topic": 1, "wrong_language": 1, "truncated": 1, "format_ignored": 1}
TIE_WEIGHT = 4.0  # against 1 for either of two equal answers: two thirds of such votes are ties

# Model -> the fractions of its answers with an obvious fault and with a subtle one.
SKILLS = {
    "birch-large": (0.00, 0.10),
    "cedar-chat": (0.05, 0.15),
    "fern-mini": (0.90, 0.05),
    "moss-tiny": (1.00, 0.00),
}

CATEGORIES = {
    "fruits": "apples pears plums figs cherries grapes melons lemons kiwis dates".split(),
    "farm animals": "cows pigs sheep goats horses ducks geese hens donkeys turkeys".split(),
    "colours": "red blue green yellow orange purple pink brown white black".split(),
    "kitchen tools": "knives spoons pans pots whisks sieves ladles graters tongs bowls".split(),
    "trees": "oaks pines birches willows maples elms cedars firs poplars beeches".split(),
    "musical instruments": "violins pianos flutes drums harps trumpets guitars cellos oboes lutes".split(),
    "vegetables": "carrots leeks onions beans peas turnips radishes beets cabbages celery".split(),
    "pieces of clothing": "shirts socks coats hats gloves scarves skirts belts boots vests".split(),
}
WORDS = (
    "garden winter bridge silver market candle forest window basket rocket harbor ladder mirror pencil summer "
    "thunder village whisper blanket chimney dolphin emerald feather gallery journey kitchen lantern meadow orchard "
    "pilgrim quarter raccoon sparrow teacher uniform volcano walnut almond beacon cactus dragon engine falcon hammer"
).split()
NUMBER_WORDS = {3: "three", 4: "four", 5: "five"}

REFUSALS = ("I'm sorry, but I can't help with that.", "I'm sorry, but I can't answer that question.")
OFF_TOPIC = (
    "The moon moves around the earth in about a month, and the tides follow it.",
    "To bake bread you need flour, water, salt, yeast and some patience.",
    "Football is played by two teams, and each has eleven players.",
)
FOREIGN = (
    "Claro, la respuesta a tu pregunta es muy sencilla: {}",
    "Gerne, die Antwort auf deine Frage lautet ganz einfach: {}",
)
TRUNCATED = ("Sure, let me see. To answer this, we first", "Of course! The answer to your ques")


def make_battles(num_battles: int, seed: int | str = 0) -> list[dict]:
    """
    Make battles.

    Args:
        num_battles (`int`): The number of battles.
        seed (`int` or `str`): Battle `i` depends only on the seed and `i`.

    Returns:
        `list[dict]`: Rows of [`BATTLE_SCHEMA`] with `probabilities` besides: those from which the vote was drawn,
        in the order of `WINNERS`.
    """
    return [_make_battle(f"{seed}-{i}") for i in range(num_battles)]


def make_train_and_test(num_train: int, num_test: int, seed: int) -> tuple[list[dict], list[dict]]:
    """
    Make battles to train on, and battles to test on that have other first prompts.

    Raises:
        UserError: If there are not enough different prompts.
    """
    train = make_battles(num_train, seed=f"{seed}-train")
    seen = {first_prompt(battle) for battle in train}
    candidates = make_battles(20 * num_test, seed=f"{seed}-test")
    test = [battle for battle in candidates if first_prompt(battle) not in seen][:num_test]
    if len(test) < num_test:
        raise UserError(f"num_train={num_train} leaves too few new prompts for num_test={num_test}. Make fewer")
    return train, test


def kaggle_row(battle: dict) -> dict:
    """A battle as a row of the LMSYS competition's train.csv."""
    return {
        "id": battle["id"],
        "model_a": battle["model_a"],
        "model_b": battle["model_b"],
        **{column: json.dumps(battle[column]) for column in TURN_COLUMNS},
        **{
            column: int(winner_of(battle["vote"]) == winner)
            for column, winner in zip(WINNER_COLUMNS, WINNERS, strict=True)
        },
    }


def vote_probabilities(severity_a: float, severity_b: float) -> tuple[float, float, float]:
    """
    The probabilities of A, B and tie for two answers with faults of these severities.

    They are those of [Davidson's model](https://doi.org/10.1080/01621459.1970.10481082) of paired comparisons with
    ties, with the severities as log strengths.
    """
    a, b = math.exp((severity_b - severity_a) / 2), math.exp((severity_a - severity_b) / 2)
    total = sum((a, b, TIE_WEIGHT))
    return a / total, b / total, TIE_WEIGHT / total


def _make_battle(battle_id: str) -> dict:
    random = Random(battle_id)
    models = random.sample(sorted(SKILLS), 2)
    num_turns = random.choices((1, 2, 3), weights=(92, 5, 3))[0]
    turns = [_make_turn(random, models) for _ in range(num_turns)]
    prompts, answers_a, answers_b, severities_a, severities_b = zip(*turns, strict=True)
    probabilities = vote_probabilities(sum(severities_a), sum(severities_b))
    return {
        "id": battle_id,
        "source": "synthetic",
        "model_a": models[0],
        "model_b": models[1],
        "prompt": list(prompts),
        "response_a": list(answers_a),
        "response_b": list(answers_b),
        "vote": vote_for(random.choices(WINNERS, weights=probabilities)[0]),
        "probabilities": list(probabilities),
    }


def _make_turn(random: Random, models: list[str]) -> tuple[str, str, str, float, float]:
    task = random.choice((_sum_task, _spelling_task, _list_task, _format_task))(random)
    (answer_a, severity_a), (answer_b, severity_b) = (_answer(random, task, model) for model in models)
    return task["prompt"], answer_a, answer_b, severity_a, severity_b


def _answer(random: Random, task: dict, model: str) -> tuple[str, float]:
    """An answer of a model, and the severity of its fault, which is 0 without one."""
    obvious, subtle = SKILLS[model]
    drawn = random.random()
    if drawn < obvious:
        faults = {fault: n for fault, n in OBVIOUS_FAULTS.items() if fault != "format_ignored" or task[fault]}
        fault = random.choices(list(faults), weights=list(faults.values()))[0]
    elif drawn < obvious + subtle:
        fault = random.choice(sorted(task["subtle"]))
    else:
        return random.choice(task["right"]), 0.0
    if fault == "off_topic":
        text = random.choice(OFF_TOPIC)
    elif fault == "refusal":
        text = random.choice(REFUSALS)
    elif fault == "wrong_language":
        text = random.choice(FOREIGN).format(task["short"])
    elif fault == "truncated":
        text = random.choice(TRUNCATED)
    elif fault == "format_ignored":
        text = random.choice(task[fault])
    else:
        text = random.choice(task["subtle"][fault])
    return text, SEVERITY[fault]


def _say(short: str) -> list[str]:
    return [short, f"The answer is {short}", f"Sure! It is {short}", f"That would be {short}"]


def _sum_task(random: Random) -> dict:
    numbers = [random.randint(11, 89) for _ in range(random.choice((2, 2, 3)))]
    prompt = random.choice(("What is {}?", "Please work out {}.", "How much is {}?", "Add up: {}."))
    wrong = sum(numbers) + random.choice((-10, -2, -1, 1, 2, 10))
    return {
        "prompt": prompt.format(" + ".join(map(str, numbers))),
        "short": f"{sum(numbers)}.",
        "right": _say(f"{sum(numbers)}."),
        "subtle": {"wrong_detail": _say(f"{wrong}.")},
        "format_ignored": [],
    }


def _spelling_task(random: Random) -> dict:
    word = random.choice(WORDS)
    backwards = random.random() < 0.3
    letters = word[::-1] if backwards else word
    i = random.choice([i for i in range(1, len(word)) if letters[i] != letters[i - 1]])
    wrong = letters[: i - 1] + letters[i] + letters[i - 1] + letters[i + 1 :]
    spelled, misspelled, short_one = ("-".join(text) for text in (letters, wrong, letters[:i] + letters[i + 1 :]))
    prompt = random.choice(("Spell the word {}{}, letter by letter.", "How do you spell {}{}, letter by letter?"))
    return {
        "prompt": prompt.format(word, " backwards" * backwards),
        "short": f"{spelled}.",
        "right": _say(f"{spelled}."),
        "subtle": {"wrong_detail": _say(f"{misspelled}."), "missed_item": _say(f"{short_one}.")},
        "format_ignored": [f"The word is {word}.", f"It is a word of {len(word)} letters: {word}."],
    }


def _list_task(random: Random) -> dict:
    category = random.choice(sorted(CATEGORIES))
    count = random.choice(sorted(NUMBER_WORDS))
    items = random.sample(CATEGORIES[category], count)
    intruder = random.choice(CATEGORIES[random.choice(sorted(set(CATEGORIES) - {category}))])
    prompt = random.choice(("Name {} {}.", "Give me {} {}.", "List {} {}, please.", "Can you think of {} {}?"))
    one_line = ", ".join
    return {
        "prompt": prompt.format(NUMBER_WORDS[count], category),
        "short": f"{one_line(items)}.",
        "right": [*_say(f"{one_line(items)}."), "\n".join(f"- {item}" for item in items)],
        "subtle": {
            "missed_item": _say(f"{one_line(items[1:])}."),
            "wrong_detail": _say(f"{one_line([intruder, *items[1:]])}."),
        },
        "format_ignored": [],
    }


def _format_task(random: Random) -> dict:
    category = random.choice(sorted(CATEGORIES))
    items = random.sample(CATEGORIES[category], 3)
    wanted, right, ignored = random.choice(
        (
            ("in capital letters only", ", ".join(items).upper(), ", ".join(items)),
            ("as a numbered list", "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1)), " and ".join(items)),
            ("as a JSON list", "[" + ", ".join(f'"{item}"' for item in items) + "]", " and ".join(items)),
        )
    )
    prompt = random.choice(("Name three {}, {}.", "Write down three {}, {}.", "I need three {}, {}."))
    return {
        "prompt": prompt.format(category, wanted),
        "short": ", ".join(items),
        "right": [right],
        "subtle": {"missed_item": [right.replace(items[0], "").replace(items[0].upper(), "")]},
        "format_ignored": [ignored, f"I would say {ignored}."],
    }
