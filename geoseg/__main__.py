"""``python -m geoseg``: the command line, where its script is not on the path."""

from geoseg.cli import main

if __name__ == "__main__":
    main()
