"""The queries that are understood:

    SELECT column [AS name], ... FROM `[project.]dataset.table`
    [WHERE condition [AND condition] ...] [ORDER BY ...]

with the columns customer_id STRING, contact_id INT64, deleted_at TIMESTAMP, note STRING (always NULL)
and labels REPEATED STRING, and the conditions

    customer_id = @name                                 the same with "@name IS NULL OR", in parentheses
    customer_id IN UNNEST(@name)
    deleted_at >= @name, deleted_at > @name

Parameters are named. Each that is written must be given with its type, and the other way round.
"""
import re

from .errors import ReasonError

COLUMNS = {"customer_id": "STRING", "contact_id": "INTEGER", "deleted_at": "TIMESTAMP",
           "note": "STRING", "labels": "STRING"}
QUERY = re.compile(r"\s*SELECT\s+(.+?)\s+FROM\s+`([^`]+)`(?:\s+WHERE\s+(.+?))?(\s+ORDER\s+BY\s+.+?)?\s*",
                   re.IGNORECASE | re.DOTALL)
COLUMN = re.compile(r"(\w+)(?:\s+AS\s+(\w+))?", re.IGNORECASE)
ONE = r"customer_id\s*=\s*@(\w+)"
CONDITIONS = (("customer", re.compile(ONE, re.IGNORECASE)),
              ("customer", re.compile(r"\(\s*@(\w+)\s+IS\s+NULL\s+OR\s+customer_id\s*=\s*@\1\s*\)",
                                      re.IGNORECASE)),
              ("customers", re.compile(r"customer_id\s+IN\s+UNNEST\(\s*@(\w+)\s*\)", re.IGNORECASE)),
              ("from", re.compile(r"deleted_at\s*>=\s*@(\w+)", re.IGNORECASE)),
              ("after", re.compile(r"deleted_at\s*>\s*@(\w+)", re.IGNORECASE)))
TYPES = {"customer": ("STRING",), "customers": ("ARRAY<STRING>",), "from": ("TIMESTAMP",),
         "after": ("TIMESTAMP",)}


def bad(message):
    return ReasonError("invalidQuery", message)


class Query:
    """columns: [(column, name)]; conditions: {kind: parameter's name}."""

    def __init__(self, text):
        found = QUERY.fullmatch(text)
        if not found:
            raise bad("Syntax error: this stand-in does not understand the query at [1:1]")
        self.columns = [self.column(item.strip()) for item in found[1].split(",")]
        self.table, self.ordered = found[2], bool(found[4])
        self.conditions = {}
        for text_of_it in re.split(r"\s+AND\s+", found[3] or "", flags=re.IGNORECASE):
            if text_of_it:
                self.add_condition(text_of_it.strip())

    def column(self, text):
        found = COLUMN.fullmatch(text)
        if not found:
            raise bad(f"Syntax error: Unexpected {text!r}")
        if found[1].lower() not in COLUMNS:
            raise bad(f"Unrecognized name: {found[1]}")
        return found[1].lower(), found[2] or found[1]

    def add_condition(self, text):
        for kind, pattern in CONDITIONS:
            found = pattern.fullmatch(text)
            if found:
                self.conditions[kind] = found[1]
                return
        raise bad(f"Syntax error: Unexpected {text!r}")

    def check_parameters(self, types):
        """types: {name: type} of what is given."""
        for kind, name in self.conditions.items():
            if name not in types:
                raise bad(f"Query parameter '{name}' not found")
            if types[name] not in TYPES[kind]:
                raise bad(f"No matching signature for operator: {name} is {types[name]}")
        unused = set(types) - set(self.conditions.values())
        if unused:
            raise bad(f"Query parameter '{min(unused)}' is not used; this stand-in is strict")
