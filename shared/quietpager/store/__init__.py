"""Where the record is kept. The only package that may import psycopg (and, later, boto3)."""
