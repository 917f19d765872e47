"""`python -m blemish` is the command line."""

from blemish.cli import main

if __name__ == "__main__":
    main()
