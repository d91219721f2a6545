"""``python -m mambaic_cli`` is ``mambaic``: what torchrun starts several of."""

from mambaic_cli.main import run

if __name__ == "__main__":
    run()
