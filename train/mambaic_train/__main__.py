"""``python -m mambaic_train`` is ``mambaic train``; under torchrun, one of its processes."""

import sys

from mambaic_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
