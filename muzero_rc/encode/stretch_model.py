"""Coefficients of stretches, by `benchmarks/make_stretch_model.py`."""

from muzero_rc.encode.ways import StretchModel

__all__ = ["STRETCH_MODEL"]

STRETCH_MODEL = StretchModel(
    bits=(
        0.77402,
        0.12381,
        -0.17376,
        0.14611,
        0.05079,
        0.01045,
        -0.02297,
        -0.00258,
        -0.30922,
        0.00556,
        0.05562,
    ),
    error=(
        -0.86927,
        0.11203,
        -0.65652,
        -0.12789,
        -0.01337,
        -0.07703,
        0.01007,
        0.00298,
        -0.40883,
        0.14237,
        -0.1947,
    ),
    psnr=(
        3.97551,
        0.51576,
        0.98564,
        2.28851,
        0.09208,
        0.43281,
        0.00231,
        -0.01267,
        2.01119,
        -1.27833,
        0.60739,
    ),
    prices=(0.02, 0.05, 0.1, 0.2, 0.5),
    levels=(20.0, 120.0),
    start_price=0.0168,
    record={
        "sources": 48,
        "clips": 48,
        "octaves_of_bits": 0.276,
        "octaves_of_error": 0.775,
        "db_of_psnr": 3.975,
        "dB of both, all levels": {
            "all": (3.98, 0.89),
            "whole chunks": (3.86, 0.86),
            "whole chunks, always": (2.15, 1.08),
            "best of all": (4.64, 0.93),
        },
        "dB of both, level 20": {
            "all": (7.44, 1.24),
            "whole chunks": (7.63, 1.28),
            "whole chunks, always": (7.73, 1.27),
            "best of all": (7.98, 1.37),
        },
        "dB of both, level 60": {
            "all": (3.01, 0.88),
            "whole chunks": (2.73, 0.94),
            "whole chunks, always": (1.36, 1.05),
            "best of all": (3.57, 0.88),
        },
        "dB of both, level 120": {
            "all": (1.5, 0.77),
            "whole chunks": (1.22, 0.62),
            "whole chunks, always": (-2.65, 1.06),
            "best of all": (2.37, 0.72),
        },
        "asked at the start price": "26 clips",
    },
)
