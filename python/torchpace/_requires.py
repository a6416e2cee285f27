"""The check that torch is there and new enough, before anything that needs it is imported."""

import re

NEEDED = (2, 10)
_NEEDED_TEXT = "torchpace needs torch >= " + ".".join(map(str, NEEDED))

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(f"{_NEEDED_TEXT}, found none: install torch first (https://pytorch.org)") from error

_found = re.match(r"(\d+)\.(\d+)", torch.__version__)
if _found is None or tuple(map(int, _found.groups())) < NEEDED:
    raise ImportError(f"{_NEEDED_TEXT}, found {torch.__version__}")
