"""`make dynamodb`: build the tests' DynamoDB, and say where it is."""

import sys

from quietpager.local.dynoxide import VERSION
from tests.dynamodb import dynoxide

if __name__ == "__main__":
    sys.stdout.write(f"dynoxide {VERSION}: {dynoxide.build()}\n")
