"""The process that teaches: the command `fewcell`, which ends with the server that began it."""

from fewcell.cli import main
from fewcell.web.jobs import end_with_server

__all__: list[str] = []

if __name__ == "__main__":
    end_with_server()
    main()
