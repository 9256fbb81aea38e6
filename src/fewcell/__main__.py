"""`python -m fewcell` is the command `fewcell`; `torchrun -m fewcell train ...` trains in several processes."""

from fewcell.cli import main

main()
