"""`python -m homeserver`: the command line."""

from homeserver.cli.main import main

if __name__ == "__main__":
    main()
