"""The version of the tool, as it stands in manifests."""

from typing import Final

VERSION: Final = "0.2.0"
