"""Everything that touches ffmpeg: what is in a file, its frames, the finished WebM.

The only package that uses ffmpeg-python.
"""

from muzero_rc.video.augment import Recipe
from muzero_rc.video.decode import Decoder, check_frames, open_decoder
from muzero_rc.video.lossless import LosslessWriter, hash_frames, render, start_hash
from muzero_rc.video.metrics import (
    MEASURES,
    clean_end,
    measurable,
    measure,
    measuring_program,
    program_version,
)
from muzero_rc.video.probe import AudioStream, VideoInfo, check_height, probe
from muzero_rc.video.streams import Packets, packets, write_y4m
from muzero_rc.video.thumbnail import write_thumbnail
from muzero_rc.video.tools import Child, find_tool
from muzero_rc.video.webm import check_audio, mux, verify, wrap

__all__ = [
    "MEASURES",
    "AudioStream",
    "Child",
    "Decoder",
    "LosslessWriter",
    "Packets",
    "Recipe",
    "VideoInfo",
    "check_audio",
    "check_frames",
    "check_height",
    "clean_end",
    "find_tool",
    "hash_frames",
    "measurable",
    "measure",
    "measuring_program",
    "mux",
    "open_decoder",
    "packets",
    "probe",
    "program_version",
    "render",
    "start_hash",
    "verify",
    "wrap",
    "write_thumbnail",
    "write_y4m",
]
