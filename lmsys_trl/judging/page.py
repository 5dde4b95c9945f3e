"""A judge -> a page in the browser, on which two answers are compared. Needs Gradio."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .compared_html import as_text, compared_html

if TYPE_CHECKING:
    from .judge import Judge

HOST = "127.0.0.1"
MAX_TURNS = 6
# Invented: prompt, answer A and answer B of each turn, by what the button says.
EXAMPLES: dict[str, list[tuple[str, str, str]]] = {
    "A sum": [("What is 17 + 25?", "17 + 25 = 42.", "Adding is fun! The answer is about 40.")],
    "A refusal": [
        (
            "How do I get wax out of cloth?",
            "Scrape it off, lay paper over it and iron that.",
            "I can't help with that.",
        )
    ],
    "Two turns": [
        ("Name a river in Europe.", "The Danube.", "The Danube: it flows into the Black Sea."),
        ("And how long is it?", "About 2,850 km.", "Rivers have many different lengths."),
    ],
}
CSS = Path(__file__).with_suffix(".css")


def check_page(port: int) -> list[str]:
    """Problems with what the page needs: Gradio, and a port that is free."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    problems = []
    try:
        import gradio  # noqa: F401
    except ImportError:
        problems.append("Gradio is missing. Install it: pip install 'lmsys-trl[demo]'")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            problems.append(f"port: {port} cannot be used: {error.strerror}. Choose another")
    return problems


def serve_page(judge: "Judge", name: str, port: int):
    """
    Serve a page to this machine alone, until it is closed.

    Args:
        judge (`Judge`): Who compares.
        name (`str`): What the page calls it.
        port (`int`): One that [`check_page`] found free.

    Returns:
        `gradio.Blocks`: The page, with `close`.
    """
    import gradio as gr
    from starlette.middleware import Middleware

    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))
    page = _build_page(judge, name)
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(button_primary_background_fill="*primary_600", button_primary_background_fill_dark="*primary_600")
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        theme=theme,
        css_paths=CSS,
        app_kwargs={"middleware": [Middleware(_NothingFromElsewhere)]},
    )
    return page


class _NothingFromElsewhere:
    """Has browsers load nothing from other machines, whatever Gradio's page names."""

    POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _build_page(judge: "Judge", name: str):
    import gradio as gr

    def show(turns: Sequence[Sequence[str]]) -> list:
        """What the components become with these turns, and no result."""
        texts = [text for turn in turns for text in turn] + [""] * 3 * (MAX_TURNS - len(turns))
        return [*texts, *resize(len(turns)), ""]

    def resize(count: int) -> list:
        visible = [k < count for k in range(MAX_TURNS)] + [count < MAX_TURNS, count > 1]
        return [count, *(gr.update(visible=is_visible) for is_visible in visible)]

    def compare(count: int, *texts: str) -> str:
        return compared_html(judge, [texts[3 * k : 3 * k + 3] for k in range(count)])

    answer = {"autoscroll": False, "min_width": 260}
    small = {"size": "sm", "scale": 0, "min_width": 92}
    silent = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="lmsys-trl", analytics_enabled=False) as page:
        gr.HTML(f"<h1>Which answer would people prefer?</h1><p>The judge is <b>{as_text(name)}</b>. Examples:</p>")
        with gr.Row():
            examples = [gr.Button(label, **small) for label in EXAMPLES]
        boxes, groups = [], []
        for k in range(MAX_TURNS):
            turn = f", turn {k + 1}" if k else ""
            with gr.Group(visible=not k) as group:
                boxes.append(gr.Textbox(label=f"Prompt{turn}", lines=2, max_lines=8, autoscroll=False))
                with gr.Row():
                    for x in "AB":
                        boxes.append(gr.Textbox(label=f"Answer {x}{turn}", lines=5, max_lines=16, **answer))
            groups.append(group)
        count = gr.State(1)
        with gr.Row():
            more = gr.Button("Add a turn", **small)
            fewer = gr.Button("Remove the last turn", visible=False, **small)
        button = gr.Button("Compare", variant="primary", elem_id="compare")
        result = gr.HTML()
        shape = [count, *groups, more, fewer]
        compared = button.click(compare, [count, *boxes], result, api_name="compare")
        # Of other texts: the result goes, and one that is still computed does not come.
        silent["cancels"] = compared
        for example, turns in zip(examples, EXAMPLES.values(), strict=True):
            example.click(lambda turns=turns: show(turns), None, [*boxes, *shape, result], **silent)
        more.click(lambda count: [*resize(count + 1), ""], count, [*shape, result], **silent)
        fewer.click(lambda count: [*resize(count - 1), ""], count, [*shape, result], **silent)
        gr.on([box.change for box in boxes], None, None, result, js="() => ['']", **silent)
    return page
