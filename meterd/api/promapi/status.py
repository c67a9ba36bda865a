"""What clients ask to learn whom they talk to."""

from meterd.api.promapi.params import Params
from meterd.api.promapi.query_executor import QueryExecutor
from meterd.api.promapi.reply import PromReply, reply
from meterd.api.times import rfc3339

# The version whose HTTP API this is: Grafana trusts match[] from 2.24 on. PromQL is that of 3.
# There must be no key "features": Grafana would take meterd for Mimir and ask for its ruler.
VERSION = "2.50.1"


async def buildinfo(executor: QueryExecutor, params: Params) -> PromReply:
    keys = ("revision", "branch", "buildUser", "buildDate", "goVersion")
    return reply({"version": VERSION, **dict.fromkeys(keys, "")})


async def runtimeinfo(executor: QueryExecutor, params: Params) -> PromReply:
    """What of it has a meaning here; the rest are zeros, for clients that expect the keys."""
    started = rfc3339(executor.site.started)
    return reply(
        {
            "startTime": started,
            "CWD": "",
            "reloadConfigSuccess": True,
            "lastConfigTime": started,
            "corruptionCount": 0,
            "goroutineCount": 0,
            "GOMAXPROCS": 0,
            "GOGC": "",
            "GODEBUG": "",
            "storageRetention": "",
        }
    )


async def flags(executor: QueryExecutor, params: Params) -> PromReply:
    return reply({})


async def config(executor: QueryExecutor, params: Params) -> PromReply:
    """An empty configuration: the real one is not for every user."""
    return reply({"yaml": ""})
