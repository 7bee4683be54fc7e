"""A cluster that a test plays, and what its nodes would write."""

from bench.launch.cluster import Place, RefusedError, Seen
from bench.launch.profile import Profile
from bench.launch.slurm import Slurm
from bench.launch.spool import Answer, Spool
from bench.task.protocol import Reply, Result

QUICK = {"poll": 0.001, "grace": 0.0}


class Played:
    """A cluster whose jobs do what a test says: by index in the order of submission."""

    def __init__(self):
        self.jobs = {}  # Place → state
        self.arrays = []  # (name, commands, parameters)
        self.cancelled = []
        self.answers = True
        self.refuses = []

    def check(self): ...

    def submit(self, folder, commands, parameters):
        if self.refuses:
            raise RefusedError(self.refuses.pop())
        self.arrays.append((folder.name, commands, parameters))
        for index in range(len(commands)):
            self.jobs[Place(folder.name, index)] = "PENDING"

    def queue(self):
        if not self.answers:
            return None
        ids = {name: str(number) for number, (name, *_) in enumerate(self.arrays, 1)}
        return {place: Seen(f"{ids[place.batch]}_{place.index}", s, "node1") for place, s in self.jobs.items() if s}

    def cancel(self, job_ids):
        self.cancelled += job_ids
        for place, job in (self.queue() or {}).items():
            if job.job_id in job_ids:
                self.jobs[place] = "CANCELLED"

    def end(self, state="COMPLETED"):
        for place in self.jobs:
            self.jobs[place] = state


def engine(cluster, folder, **options):
    """An engine that looks at once, and all the time."""
    profile = options.pop("profile", QUICK)
    return Slurm(folder, Profile(**profile), cluster=cluster, tell=options.pop("tell", print), **options)


def reply_to(request):
    return Reply(results=[Result(case_id=case.id, values={"params": 3}) for case in request.case_list()])


def do(folder, cluster, ending="replied", only=None, **values):
    """What the jobs' nodes would write."""
    kept = Spool(folder)
    for place in cluster.jobs:
        for asked in kept.job(place.batch, place.index).orders if (kept.folder / place.batch).exists() else ():
            if only is None or asked.task_id in only:
                reply = reply_to(asked.request) if ending == "replied" else None
                told = {"started": f"2026-01-01T00:00:00.{asked.attempt:06d}+00:00", "env_id": "here", **values}
                kept.put_answer(
                    asked.key, Answer(task_id=asked.task_id, ending=ending, host="n1", reply=reply, **told)
                )
