"""A test's side of the stand-in for BigQuery: what its test cases share."""
from google_api import client
from google_api.client import DEADLINE_S, main

JOBS, QUERIES = "projects/test/jobs", "projects/test/queries"
SQL = ("SELECT customer_id, contact_id, deleted_at FROM `crm.deleted_contacts` "
       "WHERE customer_id = @customer AND deleted_at >= @since")


def parameters(customer="1001", since="2023-01-01T00:00:00Z"):
    return [{"name": "customer", "parameterType": {"type": "STRING"}, "parameterValue": {"value": customer}},
            {"name": "since", "parameterType": {"type": "TIMESTAMP"}, "parameterValue": {"value": since}}]


def configured(sql=SQL, given=None, **more):
    """The query of a job."""
    return {"query": sql, "useLegacySql": False, "parameterMode": "NAMED",
            "queryParameters": parameters() if given is None else given, **more}


class Server(client.Server):
    base = "/bigquery/v2/"

    def __init__(self, *arguments):
        super().__init__("bigquery_server", *arguments)


class Case(client.Case):
    """Each with three customers of 1000 contacts in EU."""

    arguments = ("--gzip",)

    @classmethod
    def start(cls):
        return Server(*cls.arguments)

    def data(self, **of_it):
        return self.server.control("POST", "data", of_it)

    def insert(self, job_id="j", location="EU", **query):
        return self.ok("POST", JOBS, {"jobReference": {"jobId": job_id, "location": location},
                                      "configuration": {"query": configured(**query)}})

    def page(self, job_id="j", query="location=EU"):
        return self.ok("GET", f"{QUERIES}/{job_id}?{query}")

    def walk(self, job_id="j", query="location=EU&maxResults=300", token=None):
        """All rows from there on, page by page."""
        rows = []
        while True:
            page = self.page(job_id, query + (f"&pageToken={token}" if token else ""))
            rows += page.get("rows", [])
            token = page.get("pageToken")
            if not token:
                return rows

    def reason(self, method, name, body=None, code=400):
        """Of a refusal."""
        got, answer = self.server.call(method, name, body)
        self.assertEqual(got, code, str(answer)[:500])
        self.assertEqual(answer["error"]["code"], code)
        return answer["error"]["errors"][0]["reason"]


def values(rows):
    return [tuple(cell["v"] for cell in row["f"]) for row in rows]
