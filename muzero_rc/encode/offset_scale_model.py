"""Coefficients of QP offsets' scale, by `benchmarks/make_offset_scale_model.py`."""

from muzero_rc.encode.offset_scale import OffsetScaleModel, Parabola

__all__ = ["OFFSET_SCALE_MODEL"]

OFFSET_SCALE_MODEL = OffsetScaleModel(
    gain=Parabola(
        linear=(0.05834, 0.0323, 0.08344, -0.04936, -1.85195, -0.00166, -0.00095, 0.24723),
        square=(-0.08287, -0.01016, -0.00477, -0.00725, 0.30551, 0.00102, 0.0007, -0.03389),
    ),
    bits=Parabola(
        linear=(0.13691, -0.00012, -0.00845, 0.0161, -0.03693, 0.00405, -0.00469, -0.02896),
        square=(-0.00819, -0.00053, -0.00249, 0.0037, -0.03398, -0.00084, 0.00052, -0.00865),
    ),
    error=Parabola(
        linear=(-0.12815, -0.00344, 0.00035, -0.01152, 0.42196, -0.00291, 0.00343, 0.04164),
        square=(0.01884, 0.00154, 0.00211, -0.00215, 0.01742, 0.00054, -0.00059, 0.00985),
    ),
    psnr=Parabola(
        linear=(0.48405, 0.0119, -0.00289, 0.05729, -1.10873, 0.01164, -0.01643, -0.14994),
        square=(-0.03997, -0.00687, -0.0109, 0.01384, -0.0838, -0.0017, 0.00186, -0.03365),
    ),
    scales=(-3.0, 2.0),
    levels=(20.0, 120.0),
    least=0.1,
    record={
        "sources": 65,
        "clips": 70,
        "least: dB of both, standard error": {
            0.0: (0.366, 0.077),
            0.05: (0.362, 0.074),
            0.1: (0.338, 0.073),
            0.2: (0.283, 0.066),
            0.3: (0.247, 0.063),
        },
        "natural, 20: scale, dB avg, overall": (0.152, 0.193, 0.213),
        "natural, 60: scale, dB avg, overall": (0.611, -0.003, -0.012),
        "natural, 120: scale, dB avg, overall": (0.934, 0.002, -0.002),
        "animated, 20: scale, dB avg, overall": (0.104, 0.298, 0.304),
        "animated, 60: scale, dB avg, overall": (0.554, -0.003, -0.008),
        "animated, 120: scale, dB avg, overall": (0.857, 0.003, -0.003),
        "screen, 20: scale, dB avg, overall": (-0.849, 0.895, 0.742),
        "screen, 60: scale, dB avg, overall": (-0.021, 0.127, 0.022),
        "screen, 120: scale, dB avg, overall": (0.687, -0.025, -0.042),
    },
)
