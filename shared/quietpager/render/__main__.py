"""`python -m quietpager.render < OPENAPI`: print the names of fields in an API server's document."""

import json
import sys

from quietpager.render.fields import fields_of

if __name__ == "__main__":
    json.dump(fields_of(json.load(sys.stdin)), sys.stdout, indent=1)
    sys.stdout.write("\n")
