"""The plugins that come with shstk, one file each (docs/plugins.md)."""

from __future__ import annotations

from typing import Final

# name -> class in shstk/plugins/<name>.py
SHIPPED: Final = {
    "hot_blocks": "HotBlocks",
    "insn_mix": "InsnMix",
    "call_graph": "CallGraph",
    "coverage": "Coverage",
    "page_heat": "PageHeat",
    "ssp_watch": "SspWatch",
}
