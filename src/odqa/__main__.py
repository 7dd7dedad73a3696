"""`python -m odqa` is the command `odqa`."""

from odqa.cli import run

if __name__ == "__main__":
    run()
