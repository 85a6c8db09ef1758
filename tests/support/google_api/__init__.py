"""What the stand-ins for Google's REST APIs share (pubsub_server, bigquery_server).

    wire.py      HTTP/1.1 connections
    errors.py    an error answer in Google's shape
    shape.py     JSON, fields and values of a request: what is refused with 400
    tokens.py    OAuth: /token and the metadata server
    faults.py    what /control/fault breaks
    control.py   /control and the statistics
    server.py    a request's way through all of them; the command line
    client.py    not of the servers: what tests of them share
"""
