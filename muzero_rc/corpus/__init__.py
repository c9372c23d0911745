"""Videos as training material: folders of them, and corpora that are built from them.

A built corpus is a folder with clips and a manifest (`muzero-rc corpus build`).
"""

from muzero_rc.corpus.folder import (
    VALIDATION_SHARE,
    VIDEO_SUFFIXES,
    Corpus,
    CorpusClip,
    check_sources,
    find_videos,
)

__all__ = [
    "VALIDATION_SHARE",
    "VIDEO_SUFFIXES",
    "Corpus",
    "CorpusClip",
    "check_sources",
    "find_videos",
]
