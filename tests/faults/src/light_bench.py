"""``bench`` with workers that load no torch, and without figures at the end of a run."""

import sys

import bench.launch.local
from bench import cli
from bench.launch.processes import Programs
from bench.store.folder import read_plan, read_tasks
from bench.table.records import derive

bench.launch.local.Programs = lambda: Programs("light_worker", ("light_worker",))


def statuses(folder, out, **kwargs):
    return [record["status"] for record in derive(read_plan(folder), read_tasks(folder))]


sys.modules["bench.cli.run"].write_report = statuses

if __name__ == "__main__":
    cli.main()
