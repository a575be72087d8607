"""`make dynamodb`: build the tests' DynamoDB, and say where it is."""

import sys

from tests.dynamodb import dynoxide

if __name__ == "__main__":
    dynoxide.build()
    sys.stdout.write(f"dynoxide {dynoxide.VERSION}: {dynoxide.PROGRAM}\n")
