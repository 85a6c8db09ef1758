"""The parts of tests/support/pubsub_server, which see for the contract.

    wire.py          HTTP/1.1 connections
    errors.py        an error answer in Google's shape
    rules.py         names, fields, values and limits of the API: what is refused with 400
    settings.py      a subscription's and a topic's settings: checked, defaulted, changed
    subscription.py  backlog, leases, redelivery, waiting pulls of one subscription
    ordering.py      the same with message ordering
    store.py         topics, subscriptions, ids, dead letters
    calls.py         the calls of Pub/Sub and Cloud Monitoring
    monitoring.py    the filter language and answers of Cloud Monitoring
    tokens.py        OAuth: /token and the metadata server
    faults.py        what /control/fault breaks
    control.py       /control and the statistics
    client.py        not of the server: what tests of it share
    server.py        a request's way through all of them
"""
