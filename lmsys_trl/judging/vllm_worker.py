"""
Token ids -> the log probabilities of a few tokens after them, by vLLM.

Runs in an environment of vLLM's own, and imports nothing but vLLM and the standard library. Reads lines of JSON from
standard input and answers each with a line of JSON: the first is what to load, the others are lists of prompts.
"""

import json
import os
import sys


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints must not get between the answers

    def answer(value) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    import vllm
    from vllm.lora.request import LoRARequest

    engine = vllm.LLM(**job["engine"])
    # Not allowed_token_ids, which the log probabilities that vLLM returns do not know of.
    parameters = vllm.SamplingParams(max_tokens=1, temperature=1.0, logprob_token_ids=job["tokens"])
    adapter = LoRARequest("judge", 1, job["adapter"]) if job["adapter"] else None
    answer({"version": vllm.__version__})
    for line in sys.stdin:
        prompts = [{"prompt_token_ids": ids} for ids in json.loads(line)]
        outputs = engine.generate(prompts, parameters, lora_request=adapter, use_tqdm=False)
        found = [output.outputs[0].logprobs[0] for output in outputs]
        answer([[values[token].logprob for token in job["tokens"]] for values in found])


if __name__ == "__main__":  # processes of vLLM import this file again
    main()
