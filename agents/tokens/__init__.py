"""Observations as arrays of fixed size, at a constant cost for clips of any length.

The clip is seen twice: frame by frame in a window around the frame to code, and whole,
as pooled segments. Of the history the most recent rows are seen. What depends on the
clip alone is computed once per clip and kept as long as the clip's array lives.

"perceiver_ar" sees the history as a sequence that all decisions of an unroll share; "hip"
also sees the blocks of the frames ahead.
"""

from muzero_rc.agents.tokens.clip import ClipTokens
from muzero_rc.agents.tokens.shapes import Tokens, block_groups, token_shapes, zero_tokens
from muzero_rc.agents.tokens.tokenizer import Tokenizer

__all__ = [
    "ClipTokens",
    "Tokenizer",
    "Tokens",
    "block_groups",
    "token_shapes",
    "zero_tokens",
]
