"""The `hive` command: one module per noun. It talks HTTP like any client, except `up` and `doctor`."""

from typing import Final

VERSION: Final = "0.1.0"
