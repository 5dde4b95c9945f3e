"""The page of `demo`: what it shows, without Gradio; and with it the page itself, in Chromium if there is one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from html import unescape

import pytest
from helpers.models import build_judge
from helpers.run import REPOSITORY

from lmsys_trl import Judge
from lmsys_trl.judging.compare import verdict_lines
from lmsys_trl.judging.compared_html import MAX_CHARACTERS, compared_html
from lmsys_trl.judging.page import EXAMPLES, MAX_TURNS, check_page
from lmsys_trl.predictions.table import PROBABILITIES

HOSTILE = "{{7*7}} ${document.title='x'} <img src=x onerror=\"document.title='x'\"><script>alert(1)</script> **b** "
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def judge(base, tmp_path_factory):
    return Judge.from_pretrained(build_judge(base, tmp_path_factory.mktemp("page") / "judge"), str(base))


def expected(judge, turns):
    """The probabilities that are shown, in the order of the page, and the sentences."""
    found = judge.compare(*([turn[k] for turn in turns] for k in range(3)))
    return [found[order][name] for order in ("mean", "ab", "ba") for name in PROBABILITIES], list(verdict_lines(found))


def shown(html):
    """The exact values of the bars, and what a reader sees."""
    values = [float(value) for value in re.findall(r"title=['\"]([^'\"]*)['\"]", html)]
    return values, unescape(re.sub(r"<[^>]*>", "\n", html))


@pytest.mark.parametrize("turns", [*EXAMPLES.values(), [("Why?" * 50, HOSTILE * 20, "So.")]])
def test_the_values_are_those_of_the_library(judge, turns):
    values, lines = expected(judge, turns)
    html = compared_html(judge, turns)
    found, text = shown(html)
    assert found == values and all(line in text for line in lines)
    assert [line for line in text.splitlines() if re.fullmatch(r"[\d.]+%", line)] == [f"{p:.1%}" for p in values]
    assert ("only the first" in text) == (turns[0][2] == "So.") and not re.search("<(img|script)", html)


def test_what_cannot_be_compared_is_said(judge):
    html = compared_html(judge, [("p", " ", "b"), ("p", "a", "b" * (MAX_CHARACTERS + 1))])
    assert "Answer A in turn 1 is empty." in html and "Answer B in turn 2 has 100,001 characters." in html
    assert "Prompt" not in html and not shown(html)[0]
    assert "The prompt is empty." in compared_html(judge, [(None, "a", "b")])
    assert "Verdict" in compared_html(judge, [("lone \ud800", "a", "b")])


def test_what_the_page_needs(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setitem(sys.modules, "gradio", None)
        missing, in_use = check_page(taken.getsockname()[1])
    assert "pip install 'lmsys-trl[demo]'" in missing and re.match(r"port: \d+ cannot be used: Address", in_use)


@pytest.fixture(scope="module")
def page(judge):
    """The address of the page."""
    pytest.importorskip("gradio")
    from lmsys_trl.judging.page import serve_page

    port = free_port()
    served = serve_page(judge, HOSTILE, port)
    yield f"http://127.0.0.1:{port}/"
    served.close(verbose=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_over_http(judge, page):
    client = pytest.importorskip("gradio_client").Client(page, verbose=False)
    (turn,) = EXAMPLES["A refusal"]
    html = client.predict(*turn, *[""] * 3 * (MAX_TURNS - 1), api_name="/compare")
    assert shown(html)[0] == expected(judge, [turn])[0]
    with pytest.raises(OSError):  # from another address of this machine, as others would
        socket.create_connection(("127.0.0.2", int(page.rstrip("/").rpartition(":")[2])), timeout=2)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(judge, page, browser, width):
    from playwright.sync_api import expect

    tab = browser.new_page(viewport={"width": width, "height": 800})
    requests, errors = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(error))
    tab.on("dialog", lambda dialog: errors.append(dialog))
    tab.goto(page)
    expect(tab.get_by_text(HOSTILE.strip())).to_be_visible()  # the name of this judge

    def compare(turns):
        tab.get_by_role("button", name="Compare").click()
        expect(tab.locator(".verdict")).to_be_visible()
        values, lines = expected(judge, turns)
        assert shown(tab.locator(".compared").inner_html())[0] == values
        assert tab.locator(".bar .value").all_inner_texts() == [f"{p:.1%}" for p in values]
        assert all(line in tab.locator(".compared").inner_text() for line in lines)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width

    tab.get_by_role("button", name="Two turns").click()
    expect(tab.get_by_label("Answer B, turn 2")).to_have_value(EXAMPLES["Two turns"][1][2])
    compare(EXAMPLES["Two turns"])
    tab.get_by_role("button", name="Remove the last turn").click()
    expect(tab.get_by_label("Answer B, turn 2")).to_be_hidden()
    expect(tab.locator(".compared")).to_have_count(0)  # which was that of other texts
    compare(EXAMPLES["Two turns"][:1])
    tab.get_by_role("button", name="Add a turn").click()
    expect(tab.get_by_label("Answer B, turn 2")).to_be_visible()
    tab.get_by_label("Prompt, turn 2").fill(HOSTILE)
    tab.get_by_label("Answer A, turn 2").fill(HOSTILE * 30)
    tab.get_by_label("Answer B, turn 2").fill("")
    tab.get_by_role("button", name="Compare").click()
    expect(tab.get_by_text("Answer B in turn 2 is empty.")).to_be_visible()
    tab.get_by_label("Answer B, turn 2").fill("😀 " + HOSTILE)
    expect(tab.locator(".compared")).to_have_count(0)
    compare([EXAMPLES["Two turns"][0], (HOSTILE, HOSTILE * 30, "😀 " + HOSTILE)])
    assert tab.title() == "lmsys-trl" and errors == []
    assert [url for url in requests if not url.startswith((page, "data:", "blob:"))] == []
    tab.close()


@pytest.mark.parametrize("change", ["an edit", "an example", "a turn more"])
def test_no_result_of_texts_that_changed_meanwhile(judge, page, browser, monkeypatch, change):
    from playwright.sync_api import expect

    begun, go_on, ended, compare = threading.Event(), threading.Event(), threading.Event(), judge.compare

    def held(*texts):
        begun.set()
        go_on.wait(30)
        found = compare(*texts)
        ended.set()
        return found

    monkeypatch.setattr(judge, "compare", held)
    tab = browser.new_page()
    tab.goto(page)
    tab.get_by_role("button", name="A sum").click()
    expect(tab.get_by_label("Answer A").first).to_have_value(EXAMPLES["A sum"][0][1])
    tab.get_by_role("button", name="Compare").click()
    assert begun.wait(30)
    if change == "an edit":
        tab.get_by_label("Answer A").first.fill("Less.")
    else:
        tab.get_by_role("button", name="A refusal" if change == "an example" else "Add a turn").click()
    tab.wait_for_timeout(500)
    go_on.set()
    assert ended.wait(30)
    tab.wait_for_timeout(1000)
    assert tab.locator(".compared").count() == 0
    tab.get_by_role("button", name="A refusal").click()
    expect(tab.get_by_label("Answer A").first).to_have_value(EXAMPLES["A refusal"][0][1])
    tab.get_by_role("button", name="Compare").click()
    expect(tab.locator(".verdict")).to_be_visible()
    monkeypatch.undo()
    assert shown(tab.locator(".compared").inner_html())[0] == expected(judge, EXAMPLES["A refusal"])[0]
    tab.close()


def test_the_command_ends_with_ctrl_c(base, tmp_path):
    pytest.importorskip("gradio")
    port, judge = free_port(), build_judge(base, tmp_path / "judge")
    command = [sys.executable, REPOSITORY / "recipes" / "demo.py", "--adapter", judge, "--model_name_or_path", base]
    streams = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    with subprocess.Popen([*command, "--port", str(port)], **streams) as process:
        assert process.stdout.readline() == f"The page is http://127.0.0.1:{port}. Ctrl-C ends it.\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and process.stdout.read() == ""
