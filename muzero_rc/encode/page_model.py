"""Coefficients of pages, by `benchmarks/make_page_model.py`."""

from muzero_rc.encode.pages import PageFit, PageModel

__all__ = ["PAGE_MODEL"]

PAGE_MODEL = PageModel(
    constant=PageFit(
        bits=(2.7636, 0.2982, -0.8822, -0.0822),
        error=(-9.1223, 0.6098, 1.4135, 0.0045),
        psnr=(76.3848, -2.3536, -4.2999, 0.079),
    ),
    lossless_base=PageFit(
        bits=(0.9046, 0.1931, -0.4333, -0.0626),
        error=(-9.4762, 0.9418, 1.3485, 0.0219),
        psnr=(78.5393, -2.9341, -3.8074, -0.0791),
    ),
    most=4.0,
    record={
        "looked_at": 83,
        "constant": {"octaves_of_bits": 0.436, "octaves_of_error": 1.036, "db_of_psnr": 3.446},
        "sources": 39,
        "clips": 39,
        "lossless_base": {"octaves_of_bits": 0.461, "octaves_of_error": 1.182, "db_of_psnr": 5.165},
    },
)
