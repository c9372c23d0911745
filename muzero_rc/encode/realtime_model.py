"""Coefficients of encodes in real time, by `benchmarks/make_realtime_model.py`."""

from muzero_rc.encode.realtime_probe import RealtimeModel

__all__ = ["REALTIME_MODEL"]

REALTIME_MODEL = RealtimeModel(
    bits=(
        -0.30567,
        -0.81127,
        -0.17984,
        0.03396,
        2.37933,
        -0.41619,
        0.48565,
        -0.02407,
        -0.93097,
        -0.02534,
    ),
    error=(
        -0.49695,
        0.77309,
        0.05302,
        -0.25029,
        -2.87717,
        0.1299,
        0.00997,
        -0.01999,
        -0.1807,
        0.49545,
    ),
    own_to_common=0.192,
    record={
        "sources": 59,
        "clips": 64,
        "octaves_of_bits_off": 0.258,
        "by_level_alone": 0.374,
        "octaves_of_error_off": 0.26,
    },
)
