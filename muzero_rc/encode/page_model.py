"""Coefficients of pages, by `benchmarks/make_page_model.py`."""

from muzero_rc.encode.pages import PageModel

__all__ = ["PAGE_MODEL"]

PAGE_MODEL = PageModel(
    bits=(2.7636, 0.2982, -0.8822, -0.0822),
    error=(-9.1223, 0.6098, 1.4135, 0.0045),
    psnr=(76.3848, -2.3536, -4.2999, 0.079),
    most=4.0,
    record={
        "looked_at": 83,
        "octaves_of_bits": 0.436,
        "octaves_of_error": 1.036,
        "db_of_psnr": 3.446,
        "sources": 39,
        "clips": 39,
    },
)
