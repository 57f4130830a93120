"""`python -m sensorhub`: the same as the `sensorhub` command."""

from sensorhub.cli import main

if __name__ == "__main__":
    main()
