"""Makes ``python -m temporal_fleet`` the ``fleet`` command."""

from temporal_fleet.cli import main

if __name__ == "__main__":
    main()
