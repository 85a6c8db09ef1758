"""The table of deleted contacts: rows are computed, so that millions of them need no memory.

Customer number c (from 0) is named `first + c`. Its contact number i (from 0) has the id
c * contacts + (i * STRIDE + seed) mod contacts + 1, which no other contact has, and was deleted at
`since` + i * `every` milliseconds.
"""
import math

STRIDE = 7919  # a prime; the next one that shares no factor with the number of contacts is taken


class Data:
    def __init__(self, customers=3, contacts=1000, first=1001, seed=1, since=1_700_000_000_000,
                 every=1000, location="EU", table="crm.deleted_contacts", size=10_000_000, null_every=0):
        self.customers, self.contacts, self.first, self.seed = customers, contacts, first, seed
        self.since, self.every = since, every
        self.location, self.table, self.size = location, table, size  # bytes that a query bills
        self.null_every = null_every  # one in so many rows has no contact id; 0: none
        self.stride = STRIDE
        while math.gcd(self.stride, contacts) != 1:
            self.stride += 2

    def names(self):
        return [str(self.first + c) for c in range(self.customers)]

    def number_of(self, name):
        """Of the customer of that name, or None."""
        number = int(name) - self.first if name.isascii() and name.isdigit() else -1
        return number if 0 <= number < self.customers else None

    def from_time(self, us, inclusive):
        """How many contacts of a customer were deleted before that time (at it, when exclusive)."""
        past = us - self.since * 1000
        step = self.every * 1000
        count = -(-past // step) if inclusive else past // step + 1
        return min(max(count, 0), self.contacts)

    def contact(self, customer, i):
        return customer * self.contacts + (i * self.stride + self.seed) % self.contacts + 1

    def contact_json(self, customer, i):
        if self.null_every and i % self.null_every == self.null_every - 1:
            return "null"
        return f'"{customer * self.contacts + (i * self.stride + self.seed) % self.contacts + 1}"'

    def deleted_us(self, i):
        return (self.since + i * self.every) * 1000
