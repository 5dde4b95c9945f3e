"""What the code of the reference solution computes, written out: its submissions, and the tokens of its prompt."""

import numpy as np

INSTRUCTION = (
    "Here are two question-answering dialogues. Compare two model performance on answering question, "
    "determine which is better.\n\n"
)
OPTIONS = "\n###options\nA. Model A\nB. Model B\nC. Tie\n"
FRAMES = {
    "gemma2": ("<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    "llama3.1": (
        "<|begin_of_text|><|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>\n<|start_header_id|>assistant<|end_header_id|>",
    ),
}


def reference_submission(number: int, p: dict[tuple[str, str], np.ndarray], lengths, ids) -> np.ndarray:
    """
    The probabilities of a submission.

    Llama reads every battle with the answers swapped. In the first submission the 2b model also reads the longer half,
    swapped; in the second Llama reads the longest tenth once more, as given.

    Args:
        number (`int`): 1 or 2.
        p (`dict`): Probabilities by model ("gemma-2-9b", "llama-3.1-8b", "gemma-2-2b") and the order in which it read
            the answers, in terms of the battle as given, of shape `(battles, 3)`.
        lengths, ids: Of the battles. The longest are those with most tokens, ids breaking ties.
    """
    gemma, llama = p["gemma-2-9b", "ab"], p["llama-3.1-8b", "ba"]
    if number == 1:
        fraction, long = 0.5, 0.55 * gemma + 0.40 * llama + 0.05 * p["gemma-2-2b", "ba"]
    else:
        fraction, long = 0.1, 0.50 * gemma + 0.25 * llama + 0.25 * p["llama-3.1-8b", "ab"]
    longest = sorted(range(len(ids)), key=lambda i: (-lengths[i], ids[i]))[: round(fraction * len(ids))]
    submission = 0.55 * gemma + 0.45 * llama
    submission[longest] = long[longest]
    return submission


def ids_of(tokenizer, text):
    """The token ids of a text of battles."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def framed(name, tokenizer, turns):
    """The token ids of an example, without the answer, around those of its turns."""
    before, after = FRAMES[name]

    def control(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    return control(before + INSTRUCTION) + turns + control(OPTIONS + after)


def written_out(name, tokenizer, battle):
    """The token ids of a battle's example, without the answer: all turns are one text, tokenized at once."""
    turns = zip(*(battle[key] for key in ("prompt", "response_a", "response_b")), strict=True)
    turns = [[text or "None" for text in turn] for turn in turns]
    texts = [f"#Prompt\n{p}\n\n#Response\n##Model A\n{a}\n\n##Model B\n{b}" for p, a, b in turns]
    return framed(name, tokenizer, ids_of(tokenizer, "\n\n".join(texts)))
