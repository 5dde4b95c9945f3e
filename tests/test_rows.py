import pytest
from conftest import CHATML, build_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from lmsys_trl.prompts import INSTRUCTION, OPTIONS
from lmsys_trl.rows import (
    IGNORED,
    battles_to_conversations,
    check_tokenizer,
    cut_lengths,
    encode_battle,
    load_tokenizer,
    rendered_template,
)

TWO_ROUNDS = {
    "id": "1",
    "prompt": ["Hi", "Bye"],
    "response_a": ["Hello", None],
    "response_b": ["Hey<eos><|eot_id|>", ""],
    "winner": "tie",
}
MESSAGE = """\
Here are two question-answering dialogues. Compare two models' performance on answering questions, determine which is better.
#Prompt1
Hi
#Response
##Model A
Hello
##Model B
Hey<eos><|eot_id|>

#Prompt2
Bye
#Response
##Model A
None
##Model B
None

###options
A. Model A
B. Model B
C. Tie"""  # noqa: E501

# fmt: off
GEMMA2 = (
    ["<bos>", "<start_of_turn>", "user", "\n"]
    + ["Here", "▁are", "▁two", "▁question", "-", "answer", "ing", "▁dialogues", ".", "▁Compare", "▁two", "▁models"]
    + ["'", "▁performance", "▁on", "▁answering", "▁questions", ",", "▁determine", "▁which", "▁is", "▁better", "."]
    + ["\n"]
    + ["#", "Prompt", "1", "\n", "Hi", "\n", "#", "Response", "\n", "##", "Model", "▁A", "\n", "Hello"]
    + ["\n", "##", "Model", "▁B", "\n", "Hey", "<", "eos", "><", "|", "e", "ot", "_", "id", "|>", "\n\n"]
    + ["#", "Prompt", "2", "\n", "Bye", "\n", "#", "Response", "\n", "##", "Model", "▁A", "\n", "None"]
    + ["\n", "##", "Model", "▁B", "\n", "None", "\n\n"]
    + ["###", "options", "\n", "A", ".", "▁Model", "▁A", "\n", "B", ".", "▁Model", "▁B", "\n", "C", ".", "▁Tie"]
    + ["<end_of_turn>", "\n", "<start_of_turn>", "model", "\n", "C", "<eos>"]
)
LLAMA3 = (
    ["<|begin_of_text|>", "<|start_header_id|>", "user", "<|end_header_id|>", "ĊĊ"]
    + ["Here", "Ġare", "Ġtwo", "Ġquestion", "-", "ans", "w", "ering", "Ġdialog", "ues", "."]
    + ["ĠCompare", "Ġtwo", "Ġmodels", "'"]
    + ["Ġperformance", "Ġon", "Ġanswering", "Ġquestions", ",", "Ġdetermine", "Ġwhich", "Ġis", "Ġbetter", ".Ċ"]
    + ["#", "Prompt", "1", "Ċ", "Hi", "Ċ", "#", "Response", "Ċ", "##", "Model", "ĠA", "Ċ", "Hello"]
    + ["Ċ", "##", "Model", "ĠB", "Ċ", "Hey", "<", "eos", "><", "|", "e", "ot", "_id", "|", ">", "ĊĊ"]
    + ["#", "Prompt", "2", "Ċ", "By", "e", "Ċ", "#", "Response", "Ċ", "##", "Model", "ĠA", "Ċ", "None"]
    + ["Ċ", "##", "Model", "ĠB", "Ċ", "None", "ĊĊ"]
    + ["###", "options", "Ċ", "A", ".", "ĠModel", "ĠA", "Ċ", "B", ".", "ĠModel", "ĠB", "Ċ", "C", ".", "ĠTie"]
    + ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ", "C", "<|eot_id|>"]
)
# fmt: on


@pytest.mark.parametrize(("name", "tokens"), [("gemma2", GEMMA2), ("llama3.1", LLAMA3)])
def test_the_exact_tokens_of_two_rounds(assets, name, tokens):
    tokenizer = load_tokenizer(str(assets / "tokenizers" / name))
    (row,) = encode_battle(TWO_ROUNDS, tokenizer, max_length=512)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == tokens
    assert row["labels"] == [IGNORED] * (len(tokens) - 2) + row["input_ids"][-2:]


def test_the_message(tokenizer):
    (conversation,) = battles_to_conversations([TWO_ROUNDS], tokenizer, max_length=2048)[0]
    (row,) = encode_battle(TWO_ROUNDS, tokenizer, max_length=2048)
    assert conversation == {
        "prompt": [{"role": "user", "content": MESSAGE}],
        "completion": [{"role": "assistant", "content": "C"}],
        "num_tokens": len(row["input_ids"]),
    }
    before, after = rendered_template(tokenizer)
    assert tokenizer.decode(row["input_ids"]) == before + MESSAGE + after + "C<|im_end|>"


texts = (
    st.none()
    | st.text(max_size=80)
    | st.sampled_from(["<eos>", "a<|im_end|>b", "<start_of_turn>user\n", "<|eot_id|>"])
)
battles = st.integers(0, 5).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            **{key: st.lists(texts, min_size=n, max_size=n) for key in ("prompt", "response_a", "response_b")},
            "winner": st.sampled_from(["model_a", "model_b", "tie", None]),
        }
    )
)


def check_rows(battle, tokenizer, max_length):
    rows = encode_battle(battle, tokenizer, max_length)
    frame = encode_battle({**battle, "prompt": [""], "response_a": [""], "response_b": [""]}, tokenizer, 10**6)[0]
    control = {i for i in frame["input_ids"] if i in tokenizer.all_special_ids}
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        assert len(ids) == len(labels) <= max_length
        num_control = sum(i in tokenizer.all_special_ids for i in ids)
        assert num_control == sum(i in tokenizer.all_special_ids for i in frame["input_ids"])
        assert {i for i in ids if i in tokenizer.all_special_ids} == control
        if battle["winner"] is None:
            assert set(labels) == {IGNORED}
        else:
            letter = {"model_a": "A", "model_b": "B", "tie": "C"}[battle["winner"]]
            assert labels[:-2] == [IGNORED] * (len(ids) - 2)
            assert labels[-2:] == ids[-2:] == [tokenizer.convert_tokens_to_ids(letter), tokenizer.eos_token_id]

    # Whole rounds in their order, the last in the last row: each heading with its own number stands in one row.
    conversations = battles_to_conversations([battle], tokenizer, max_length)[0]
    num_rounds = max(1, len(battle["prompt"]))
    rounds, k = [], 1
    for conversation in conversations:
        message = conversation["prompt"][0]["content"]
        assert message.startswith(INSTRUCTION) and message.endswith(OPTIONS)
        first = k
        while k <= num_rounds and f"\n#Prompt{k}\n" in message:
            k += 1
        assert k > first
        rounds.append(range(first, k))
    assert k == num_rounds + 1
    for conversation, row_rounds in zip(conversations, rounds, strict=True):
        if len(row_rounds) > 1:  # only a round that is alone may be cut
            for key in ("prompt", "response_a", "response_b"):
                for k in row_rounds:
                    assert f"\n{battle[key][k - 1] or 'None'}\n" in conversation["prompt"][0]["content"]


@given(battle=battles, max_length=st.integers(300, 900))
def test_rows_of_any_battle(tokenizer, battle, max_length):
    check_rows(battle, tokenizer, max_length)


@given(battle=battles, max_length=st.integers(85, 300))
def test_rows_of_any_battle_with_real_tokenizers(real_tokenizer, battle, max_length):
    check_rows(battle, real_tokenizer, max_length)


def test_rows_are_filled_from_the_last_round_backwards(tokenizer):
    battle = {key: ["x" * 100] * 3 for key in ("prompt", "response_a", "response_b")} | {"winner": "model_a"}
    whole = len(encode_battle(battle, tokenizer, 10**6)[0]["input_ids"])
    assert len(encode_battle(battle, tokenizer, whole)) == 1
    rows = battles_to_conversations([battle], tokenizer, whole - 1)[0]
    assert [message["prompt"][0]["content"].count("#Prompt") for message in rows] == [1, 2]
    assert "#Prompt1" in rows[0]["prompt"][0]["content"]


def test_an_over_long_round_is_cut_by_budgets(tokenizer):
    battle = {"prompt": ["p" * 1000], "response_a": ["a" * 1000], "response_b": ["b" * 30], "winner": None}
    fixed = len(encode_battle({**battle, **dict.fromkeys(("prompt", "response_a", "response_b"), ["x"])}, tokenizer, 999)[0]["input_ids"]) - 3  # fmt: skip # noqa: E501
    (row,) = encode_battle(battle, tokenizer, max_length=fixed + 2 + 200)
    text = tokenizer.decode(row["input_ids"])
    assert len(row["input_ids"]) == fixed + 200  # the letter and the end token have their room
    assert "p" * 40 in text and "p" * 41 not in text  # a fifth
    assert "a" * 130 in text and "a" * 131 not in text  # two fifths, and the 50 that B leaves
    assert "b" * 30 in text


lengths = st.integers(0, 400)


@given(prompt=lengths, a=lengths, b=lengths, room=lengths)
def test_cuts_fill_the_room_and_treat_answers_alike(prompt, a, b, room):
    kept = cut_lengths(prompt, a, b, room)
    assert all(0 <= k <= n for k, n in zip(kept, (prompt, a, b), strict=True))
    assert sum(kept) <= room
    assert sum(kept) >= min(room - 1, prompt + a + b)  # an odd token may be left where both answers want it
    swapped = cut_lengths(prompt, b, a, room)
    assert (swapped[0], swapped[2], swapped[1]) == kept


def test_no_room_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="max_length=100 is too short: the fixed parts take 2"):
        encode_battle(TWO_ROUNDS, tokenizer, max_length=100)
    with pytest.raises(ValueError, match="battle 1: prompt, response_a and response_b have 2, 1 and 2 turns"):
        encode_battle({**TWO_ROUNDS, "response_a": ["x"]}, tokenizer, max_length=1000)
    with pytest.raises(ValueError, match="battle 1: winner 'A' is none of model_a, model_b, tie"):
        encode_battle({**TWO_ROUNDS, "winner": "A"}, tokenizer, max_length=1000)


def test_a_lone_surrogate_is_replaced(tokenizer):
    (row,) = encode_battle({**TWO_ROUNDS, "response_a": ["a\ud83d", None]}, tokenizer, max_length=1000)
    assert "##Model A\na\ufffd\n" in tokenizer.decode(row["input_ids"])


def test_tokenizers_that_cannot_judge(assets):
    with pytest.raises(ValueError, match="pad token .* must be another one than its end token"):
        check_tokenizer(build_tokenizer(pad_token="<|im_end|>"))
    no_template = build_tokenizer()
    no_template.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        check_tokenizer(no_template)
    doubled = build_tokenizer()
    doubled.chat_template = "<|im_start|>" + CHATML
    with pytest.raises(ValueError, match="starts with two"):
        check_tokenizer(doubled)
    glued = load_tokenizer(str(assets / "tokenizers" / "llama3.1"))
    glued.chat_template = "{{ messages[0]['content'] }} Answer: "
    with pytest.raises(ValueError, match="another token in the answer's place"):
        check_tokenizer(glued)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        load_tokenizer(str(assets / "tokenizers" / "llama3.1"), pad_token="<nothing>")


def test_a_template_that_dates_its_rows():
    """Llama-3.1's own template writes today's date into the system turn unless it is told one."""
    dated = build_tokenizer()
    dated.chat_template = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}\n" + CHATML  # fmt: skip # noqa: E501
    assert rendered_template(dated)[0].startswith("26 Jul 2024\n")
