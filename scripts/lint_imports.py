"""Runs import-linter on the package that lies in a given folder.

An editable install puts a finder in front of sys.path, which would answer with the
checkout's folders, laid out otherwise than the package; it is taken away here.
"""

import sys
from pathlib import Path

from importlinter.cli import lint_imports

CONFIG = Path(__file__).resolve().parents[1] / "pyproject.toml"


def main(folder: str) -> int:
    """Checks `folder`/muzero_rc; 0 if every contract is kept."""
    sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("_editable")]
    sys.path.insert(0, folder)
    return lint_imports(config_filename=str(CONFIG), no_cache=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
