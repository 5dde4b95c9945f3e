"""
Serve a page in the browser on which two answers are compared.

    lmsys-trl demo --adapter runs/judge
    lmsys-trl demo --adapter owner/name --port 8080

The page is reachable from this machine only. Ctrl-C ends it. Needs Gradio: pip install 'lmsys-trl[demo]'
"""

import threading
from contextlib import suppress
from dataclasses import dataclass, field

from lmsys_trl.config import parse_config
from lmsys_trl.errors import raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class DemoConfig:
    """Which judge compares, and where."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    port: int = field(default=7860, metadata={"help": "The port of the page, on this machine."})


CONFIGS = (DemoConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.judging.page import HOST, check_page, serve_page
    from lmsys_trl.models.precision import check_inference_config, precision_overrides

    raise_problems([*check_inference_config(inference), *check_page(config.port)])
    from lmsys_trl.artifacts import strip_local_paths
    from lmsys_trl.judging.judge import Judge

    judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
    page = serve_page(judge, strip_local_paths(config.adapter), config.port)
    logger.info("The page is http://%s:%d. Ctrl-C ends it.", HOST, config.port)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    page.close(verbose=False)


if __name__ == "__main__":
    run_recipe(main)
