"""`python -m kuberouter_py`: the same as the command kuberouter-py."""

from kuberouter_py.cli import main

if __name__ == "__main__":
    main()
