"""The parts of tests/support/bigquery_server, which see for the contract. On google_api.

    data.py     the deleted contacts: made from a seed when they are asked for, never kept
    sql.py      the one form of query that is understood
    rules.py    the bodies and parameters of the calls: what is refused with 400
    errors.py   an error answer in BigQuery's shape, which has reasons
    jobs.py     query jobs: submitted, run, failed; their results, page by page
    calls.py    the calls
    faults.py   the faults that only BigQuery has
    server.py   the server of all that
    client.py   not of the server: what tests of it share
"""
