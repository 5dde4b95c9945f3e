"""Lengths of turns -> examples of complete turns within a maximum length. Plain arithmetic."""

Lengths = tuple[int, int, int]  # of a turn's prompt, the answer of A and the answer of B


def fit_turns(lengths: list[Lengths], header_lengths: list[int], room: int) -> list[list[tuple[int, Lengths]]]:
    """
    Distribute turns over examples, from the last turn backwards.

    Args:
        lengths (`list[tuple[int, int, int]]`): Tokens of each turn's prompt and answers.
        header_lengths (`list[int]`): Tokens of each turn's headers, which are never truncated.
        room (`int`): Maximum tokens in an example.

    Returns:
        `list[list[tuple]]`: Examples of pairs: the index of a turn, and how many tokens of its three texts are kept.
    """
    examples: list[list[tuple[int, Lengths]]] = []
    left = 0
    for k in range(len(lengths) - 1, -1, -1):
        kept = lengths[k]
        needed = header_lengths[k] + sum(kept)
        if needed > room:
            kept = truncate_lengths(*kept, room - header_lengths[k])
            needed = header_lengths[k] + sum(kept)
        if not examples or needed > left:
            examples.insert(0, [])
            left = room
        examples[0].insert(0, (k, kept))
        left -= needed
    return examples


def truncate_lengths(prompt: int, response_a: int, response_b: int, room: int) -> Lengths:
    """
    How many tokens are kept of the three texts of a turn that share `room` tokens. Swapping the answers swaps what is
    kept of them.
    """
    kept_prompt = min(prompt, room // 5)
    kept_a, kept_b = min(response_a, room * 2 // 5), min(response_b, room * 2 // 5)
    unused = room - kept_prompt - kept_a - kept_b
    need_a, need_b = response_a - kept_a, response_b - kept_b
    more_a = min(need_a, max(unused // 2, unused - need_b))
    more_b = min(need_b, max(unused // 2, unused - need_a))
    more_prompt = min(prompt - kept_prompt, unused - more_a - more_b)
    return kept_prompt + more_prompt, kept_a + more_a, kept_b + more_b
