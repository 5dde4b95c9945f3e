"""`accelerate launch`, which leaves it to the recipe how a signal ends it."""

import signal

import psutil
from accelerate.commands.launch import main


def _pass_on(number, frame) -> None:
    for child in psutil.Process().children():
        child.send_signal(number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)  # of a terminal, which sends it to the recipe too
    signal.signal(signal.SIGTERM, _pass_on)
    main()
