"""Everything that touches ffmpeg: what is in a file, its frames, the finished WebM.

The only package that uses ffmpeg-python.
"""

from muzero_rc.video.augment import Recipe
from muzero_rc.video.containers import (
    AUDIO_MODES,
    CONTAINERS,
    WEBM,
    AudioMode,
    Container,
    container_of,
)
from muzero_rc.video.covers import Cover, extract_covers
from muzero_rc.video.decode import Decoder, check_frames, open_decoder
from muzero_rc.video.ivf import set_times
from muzero_rc.video.key_times import frames_at, key_times
from muzero_rc.video.losses import left_at_edges, losses
from muzero_rc.video.lossless import LosslessWriter, hash_frames, render, start_hash
from muzero_rc.video.metrics import (
    MEASURES,
    clean_end,
    measurable,
    measure,
    measuring_program,
    program_version,
)
from muzero_rc.video.mux import MuxPlan, mux, mux_command, wrap
from muzero_rc.video.mux_by_hand import mux_by_hand
from muzero_rc.video.picture import Picture, picture_of
from muzero_rc.video.probe import AudioStream, VideoInfo, check_height, probe
from muzero_rc.video.seek import Seek, seek_before
from muzero_rc.video.shipped import Promise, promise_of, verify
from muzero_rc.video.streams import Packets, packets, write_y4m
from muzero_rc.video.subtitles import CleanText, extract_text
from muzero_rc.video.tags import lost_tags
from muzero_rc.video.thumbnail import write_thumbnail
from muzero_rc.video.tools import Child, find_tool
from muzero_rc.video.tracks import Track
from muzero_rc.video.y4m import store_y4m

__all__ = [
    "AUDIO_MODES",
    "AudioMode",
    "AudioStream",
    "CONTAINERS",
    "Child",
    "CleanText",
    "Container",
    "Cover",
    "Decoder",
    "LosslessWriter",
    "MEASURES",
    "MuxPlan",
    "Packets",
    "Picture",
    "Promise",
    "Recipe",
    "Seek",
    "Track",
    "VideoInfo",
    "WEBM",
    "check_frames",
    "check_height",
    "clean_end",
    "container_of",
    "extract_covers",
    "extract_text",
    "find_tool",
    "frames_at",
    "hash_frames",
    "key_times",
    "left_at_edges",
    "losses",
    "lost_tags",
    "measurable",
    "measure",
    "measuring_program",
    "mux",
    "mux_by_hand",
    "mux_command",
    "open_decoder",
    "packets",
    "picture_of",
    "probe",
    "program_version",
    "promise_of",
    "render",
    "seek_before",
    "set_times",
    "start_hash",
    "store_y4m",
    "verify",
    "wrap",
    "write_thumbnail",
    "write_y4m",
]
