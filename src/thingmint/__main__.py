"""`python -m thingmint` is `thingmint`."""

from thingmint.cli.main import run

run()
