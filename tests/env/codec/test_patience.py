"""A watchdog that tells an encoder that hangs from one that was stopped, or is slow."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.errors import EncoderTimeoutError

_WAITS = """
import contextlib, os, sys
from fractions import Fraction
import numpy as np
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.errors import EncoderTimeoutError

frames = np.zeros((8, 64 * 48 * 3 // 2), np.uint8)
clip = Clip.from_frames(frames, 64, 48, Fraction(25))
settings = CodecSettings(target_kbps=100)
told, tells = os.pipe()
from muzero_rc.env.codec.first_pass import first_pass
known = first_pass(clip, settings)
clip.reader = lambda: contextlib.nullcontext(_native.FrameReader.from_pipe(told, 64, 48, 0, 8))
session = EncoderSession(clip, settings, first_pass=known, timeout_s=3.0)
print("begun", flush=True)
try:
    session.next()
except EncoderTimeoutError:
    print("given up", flush=True)
os.close(tells)
"""


def test_time_in_which_the_process_is_stopped_is_not_waited() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(5.0)
        os.kill(child.pid, signal.SIGCONT)
        goes_on = time.monotonic()
        assert child.stdout.readline() == "given up\n"
        assert time.monotonic() - goes_on > 1.5
        child.communicate(timeout=60)
    assert child.returncode == 0


def test_an_encoder_that_stands_still_is_given_up(
    moving_square: Callable[..., Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = moving_square(8, 64, 48)
    settings = CodecSettings(target_kbps=100)
    known = first_pass(clip, settings)
    told, tells = os.pipe()

    @contextlib.contextmanager
    def silent() -> Iterator[Any]:
        yield _native.FrameReader.from_pipe(told, clip.width, clip.height, 0, 8)

    monkeypatch.setattr(clip, "reader", silent)
    begun = time.monotonic()
    session = EncoderSession(clip, settings, first_pass=known, timeout_s=0.5)
    with pytest.raises(EncoderTimeoutError, match="did not answer within"):
        session.next()
    os.close(tells)  # so that its thread ends
    session.close()
    os.close(told)
    assert time.monotonic() - begun < 20.0
