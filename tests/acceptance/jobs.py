"""jobs - instances of the program whose jobs are those of tests/fakes/fake_batch_jobs.c: each step of a run is
a fenced transaction that leaves a row, so that what was done, by whom and under which term can be counted."""
import lib

PROGRAM = lib.ROOT / "build/debug/tests/job_program"
TABLES = """
    CREATE TABLE public.job_plan (job text PRIMARY KEY, tenants int NOT NULL, step_ms int NOT NULL DEFAULT 0,
        hold_ms int NOT NULL DEFAULT 0, fails text NOT NULL DEFAULT '');
    CREATE TABLE public.job_steps (job text, run_id bigint, tenant text, holder text, term bigint, at timestamptz);
    CREATE TABLE public.job_refused (job text, run_id bigint, holder text, term bigint);
"""


def prepare(run):
    run.servers.sql(TABLES)
    run.manager("job", "resume", "dashboard")  # makes the admin schema


def plan(run, job, tenants, step_ms=0, hold_ms=0):
    run.servers.sql(f"INSERT INTO public.job_plan VALUES ('{job}', {tenants}, {step_ms}, {hold_ms})"
                    f" ON CONFLICT (job) DO UPDATE SET tenants = excluded.tenants, step_ms = excluded.step_ms,"
                    f" hold_ms = excluded.hold_ms;")


def number(run, query):
    return int(run.servers.value(query))


def steps(run, job, more=""):
    return number(run, f"SELECT count(*) FROM public.job_steps WHERE job = '{job}' {more};")


def doubled(run):
    """Steps of a run that were done more than once."""
    return run.servers.sql("SELECT job, run_id, tenant, count(*) FROM public.job_steps"
                           " GROUP BY 1, 2, 3 HAVING count(*) > 1;")


def states(run, job):
    return run.servers.sql(f"SELECT state, count(*) FROM client_manager.job_runs WHERE job = '{job}'"
                           f" GROUP BY 1 ORDER BY 1;")
