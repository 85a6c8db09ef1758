"""The parts of tests/support/pubsub_server, which see for the contract. On google_api.

    rules.py         names, fields, values and limits of the API: what is refused with 400
    settings.py      a subscription's and a topic's settings: checked, defaulted, changed
    subscription.py  backlog, leases, redelivery, waiting pulls of one subscription
    ordering.py      the same with message ordering
    store.py         topics, subscriptions, ids, dead letters
    calls.py         the calls of Pub/Sub and Cloud Monitoring
    monitoring.py    the filter language and answers of Cloud Monitoring
    faults.py        the faults that only Pub/Sub has
    server.py        the server of all that
    client.py        not of the server: what tests of it share
"""
