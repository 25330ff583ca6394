"""The demo model: a tiny gpt-oss checkpoint that ships with the package.

`DEMO_MODEL` is its folder, to be given to `mlx_lm.utils.load_model`. There is no tokenizer in
it: openai-harmony does all tokenising. How it was made and how well it does: `MODEL_CARD.md`.
"""

from pathlib import Path
from typing import Final

DEMO_MODEL: Final[Path] = Path(__file__).parent
