"""A folder that shows an evaluation in a browser, from disk, without a server or network.

`contents` says what the page holds, `verdict` puts it into a sentence, `page` writes the
folder, `figure` a picture for print.
"""

from muzero_rc.evaluation.report.figure import plot_rate_distortion
from muzero_rc.evaluation.report.page import check_report_folder, write_report

__all__ = ["check_report_folder", "plot_rate_distortion", "write_report"]
