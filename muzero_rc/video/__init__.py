"""Everything that touches ffmpeg: what is in a file, its frames, the finished WebM.

The only package that uses ffmpeg-python.
"""

from muzero_rc.video.augment import Recipe
from muzero_rc.video.decode import Decoder, open_decoder
from muzero_rc.video.lossless import LosslessWriter, hash_frames, render, start_hash
from muzero_rc.video.probe import AudioStream, VideoInfo, check_height, probe
from muzero_rc.video.tools import find_tool
from muzero_rc.video.webm import check_audio, mux, verify

__all__ = [
    "AudioStream",
    "Decoder",
    "LosslessWriter",
    "Recipe",
    "VideoInfo",
    "check_audio",
    "check_height",
    "find_tool",
    "hash_frames",
    "mux",
    "open_decoder",
    "probe",
    "render",
    "start_hash",
    "verify",
]
