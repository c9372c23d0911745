"""Everything that touches ffmpeg: what is in a file, its frames, the finished WebM.

The only package that uses ffmpeg-python.
"""

from muzero_rc.video.decode import Decoder, open_decoder
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
from muzero_rc.video.tools import Child, find_tool
from muzero_rc.video.webm import check_audio, mux, verify

__all__ = [
    "MEASURES",
    "AudioStream",
    "Child",
    "Decoder",
    "Packets",
    "VideoInfo",
    "check_audio",
    "check_height",
    "clean_end",
    "find_tool",
    "measurable",
    "measure",
    "measuring_program",
    "mux",
    "open_decoder",
    "packets",
    "probe",
    "program_version",
    "verify",
    "write_y4m",
]
